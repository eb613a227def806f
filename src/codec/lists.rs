//! How many entries the lists of an encoded message have.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// How many entries the lists of a request may have together. Each list has a smaller bound of its own, which is checked
/// once the request is decoded: this one is for what no caller sends by mistake.
pub(crate) const MAX_ENTRIES: usize = 10_000;
/// How deep messages may stand in each other, as prost has it.
const MAX_DEPTH: u32 = 100;

/// A field that is a list, or a message that may have lists.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its number in the proto.
    pub number: u32,
    /// Its name in the proto.
    pub name: &'static str,
    /// Whether it is a list.
    pub repeated: bool,
    /// What it is, or what its entries are.
    pub element: Element,
}

/// What a field is.
#[derive(Clone, Copy, Debug)]
pub enum Element {
    /// A string, or bytes.
    Text,
    /// A number, or an enum, of one byte or more; many in one value if the list is packed.
    Varint,
    /// A number of so many bytes; many in one value if the list is packed.
    Fixed(usize),
    /// A message of these fields.
    Message(&'static &'static [Field]),
}

/// Why a message isn't decoded.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is no protobuf.
    Malformed,
    /// With this field its lists have too many entries.
    TooMany(String),
}

/// How many entries all lists of a message have, those of messages in it included. Ends at the first entry too many.
pub(super) fn count_entries(fields: &[Field], message: &[u8]) -> Result<usize, Refusal> {
    let mut entries = 0;
    add_entries(fields, message, MAX_DEPTH, &mut entries)?;
    Ok(entries)
}

fn add_entries(
    fields: &[Field],
    mut message: &[u8],
    depth: u32,
    entries: &mut usize,
) -> Result<(), Refusal> {
    if fields.is_empty() {
        return Ok(());
    }
    let depth = depth.checked_sub(1).ok_or(Refusal::Malformed)?;
    while !message.is_empty() {
        let (number, wire_type) = decode_key(&mut message).map_err(|_| Refusal::Malformed)?;
        let field = fields.iter().find(|field| field.number == number);
        let value = match (field, wire_type) {
            (Some(_), WireType::LengthDelimited) => {
                let length = decode_varint(&mut message).map_err(|_| Refusal::Malformed)?;
                let length = usize::try_from(length).map_err(|_| Refusal::Malformed)?;
                let split = message.split_at_checked(length);
                let (value, rest) = split.ok_or(Refusal::Malformed)?;
                message = rest;
                value
            }
            _ => {
                let context = DecodeContext::default();
                skip_field(wire_type, number, &mut message, context)
                    .map_err(|_| Refusal::Malformed)?;
                &[]
            }
        };
        let Some(field) = field else { continue };
        if field.repeated {
            *entries += match (field.element, wire_type) {
                (Element::Varint, WireType::LengthDelimited) => {
                    value.iter().filter(|byte| **byte < 0x80).count()
                }
                (Element::Fixed(size), WireType::LengthDelimited) => value.len() / size,
                _ => 1,
            };
            if *entries > MAX_ENTRIES {
                return Err(Refusal::TooMany(field.name.to_owned()));
            }
        }
        if let Element::Message(fields) = field.element {
            add_entries(fields, value, depth, entries).map_err(|refusal| match refusal {
                Refusal::TooMany(inner) => Refusal::TooMany(format!("{}.{inner}", field.name)),
                Refusal::Malformed => Refusal::Malformed,
            })?;
        }
    }
    Ok(())
}

mod requests {
    use super::{Element, Field};
    use crate::codec::Received;

    include!(concat!(env!("OUT_DIR"), "/request_lists.rs"));
}
