//! Counts the list entries of an encoded message.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Maximum number of entries in all lists of a request together. Each list has a smaller limit of its own, which is
/// checked after decoding: this one stops requests that no caller sends by mistake.
pub(crate) const MAX_ENTRIES: usize = 10_000;
/// Maximum nesting depth of messages, the same as prost's.
const MAX_DEPTH: u32 = 100;

/// A field that is a list, or a message that may contain lists.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The field's number in the proto.
    pub number: u32,
    /// The field's name in the proto.
    pub name: &'static str,
    /// Whether the field is repeated.
    pub repeated: bool,
    /// The type of the field, or of its entries.
    pub element: Element,
}

/// The type of a field or list entry.
#[derive(Clone, Copy, Debug)]
pub enum Element {
    /// A string, or bytes.
    Text,
    /// A varint: a number or an enum of one byte or more; several in one value if the list is packed.
    Varint,
    /// A number of this many bytes; several in one value if the list is packed.
    Fixed(usize),
    /// A message with these fields.
    Message(&'static &'static [Field]),
}

/// Why a message is rejected before decoding.
#[derive(Debug)]
pub(super) enum ListError {
    /// It isn't valid protobuf.
    Malformed,
    /// The lists have too many entries, the first one too many in this field.
    TooMany(String),
}

/// Counts the entries of all lists of a message, including those of nested messages. Fails at the first entry over
/// [`MAX_ENTRIES`].
pub(super) fn count_entries(fields: &[Field], message: &[u8]) -> Result<usize, ListError> {
    let mut entries = 0;
    add_entries(fields, message, MAX_DEPTH, &mut entries)?;
    Ok(entries)
}

fn add_entries(
    fields: &[Field],
    mut message: &[u8],
    depth: u32,
    entries: &mut usize,
) -> Result<(), ListError> {
    if fields.is_empty() {
        return Ok(());
    }
    let depth = depth.checked_sub(1).ok_or(ListError::Malformed)?;
    while !message.is_empty() {
        let (number, wire_type) = decode_key(&mut message).map_err(|_| ListError::Malformed)?;
        let field = fields.iter().find(|field| field.number == number);
        let value = match (field, wire_type) {
            (Some(_), WireType::LengthDelimited) => {
                let length = decode_varint(&mut message).map_err(|_| ListError::Malformed)?;
                let length = usize::try_from(length).map_err(|_| ListError::Malformed)?;
                let split = message.split_at_checked(length);
                let (value, rest) = split.ok_or(ListError::Malformed)?;
                message = rest;
                value
            }
            _ => {
                let context = DecodeContext::default();
                skip_field(wire_type, number, &mut message, context)
                    .map_err(|_| ListError::Malformed)?;
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
                return Err(ListError::TooMany(field.name.to_owned()));
            }
        }
        if let Element::Message(fields) = field.element {
            add_entries(fields, value, depth, entries).map_err(|error| match error {
                ListError::TooMany(inner) => ListError::TooMany(format!("{}.{inner}", field.name)),
                ListError::Malformed => ListError::Malformed,
            })?;
        }
    }
    Ok(())
}

mod requests {
    use super::{Element, Field};
    use crate::codec::RpcMessage;

    include!(concat!(env!("OUT_DIR"), "/request_lists.rs"));
}
