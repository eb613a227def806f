//! The codec of the generated services: prost's, with limits on the memory that a request takes once it is decoded.
//!
//! A few bytes can take much memory: an empty message in a list takes two bytes on the wire and about a hundred
//! decoded. So the entries of a request's lists are counted before it is decoded, and its estimated size counts against
//! the memory limit of messages. Responses have no limits: clients decode them with the same codec.

mod lists;

use std::{marker::PhantomData, sync::Arc};

use prost::{Message, bytes::Buf};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

pub(crate) use self::lists::MAX_ENTRIES;
pub use self::lists::{Element, Field};
use self::lists::{ListError, count_entries};
use crate::{domain::FieldViolation, error::Error, listen::MemoryReservation};

/// The most that a list entry takes beside its texts, in bytes: its element in the list, which is copied while it
/// grows, and the allocations of its texts. The fuzz target `decoder` fails if a message takes more.
const ENTRY_OVERHEAD: usize = 384;

tokio::task_local! {
    /// The memory reservation of the call that is being polled.
    static RESERVATION: Arc<MemoryReservation>;
}

/// Polls a call whose requests count against `reservation`.
pub(crate) fn with_reservation<T>(
    reservation: Option<Arc<MemoryReservation>>,
    poll: impl FnOnce() -> T,
) -> T {
    match reservation {
        Some(reservation) => RESERVATION.sync_scope(reservation, poll),
        None => poll(),
    }
}

/// A request or response message of an RPC. `build.rs` implements this for each.
pub trait RpcMessage: Message + Default {
    /// The lists of a request; `None` for a response, which isn't limited.
    const LISTS: Option<&'static [Field]>;
}

/// prost's codec, with limits for requests.
#[derive(Clone, Debug)]
pub struct LimitedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LimitedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for LimitedCodec<T, U>
where
    T: Message + Send + 'static,
    U: RpcMessage + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = LimitedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> LimitedDecoder<U> {
        LimitedDecoder {
            inner: ProstDecoder::default(),
            reservation: RESERVATION.try_with(Clone::clone).ok(),
            reserved: 0,
        }
    }
}

/// The decoder of [`LimitedCodec`].
#[derive(Debug)]
pub struct LimitedDecoder<U> {
    inner: ProstDecoder<U>,
    reservation: Option<Arc<MemoryReservation>>,
    /// Bytes reserved for the largest message so far, of which at least one is still in use.
    reserved: usize,
}

impl<U: RpcMessage> LimitedDecoder<U> {
    fn reserve_decoded(&mut self, lists: &[Field], message: &[u8]) -> Result<(), Status> {
        let entries = count_entries(lists, message).map_err(|error| match error {
            ListError::Malformed => Status::internal("malformed protobuf"),
            ListError::TooMany(field) => too_many(field),
        })?;
        let cost = cost(message.len(), entries);
        if let Some(reservation) = &self.reservation
            && cost > self.reserved
        {
            if !reservation.reserve(cost - self.reserved) {
                return Err(Error::Overloaded("message memory limit reached".into()).into());
            }
            self.reserved = cost;
        }
        Ok(())
    }
}

/// The most that a request takes, in bytes: the buffer that it is decompressed into, its texts once more, and its
/// lists.
fn cost(size: usize, entries: usize) -> usize {
    2 * size + ENTRY_OVERHEAD * entries
}

fn too_many(field: String) -> Status {
    let description =
        format!("is too long: all lists of a request have at most {MAX_ENTRIES} entries");
    Error::Invalid(vec![FieldViolation { field, description }]).into()
}

impl<U: RpcMessage> Decoder for LimitedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if let Some(lists) = U::LISTS {
            // tonic's buffer is a single chunk. Otherwise the message is rejected, because only one chunk would be
            // counted.
            let message = buffer.chunk();
            if message.len() != buffer.remaining() {
                return Err(Status::internal("a message in several chunks"));
            }
            self.reserve_decoded(lists, message)?;
        }
        self.inner.decode(buffer)
    }
}

impl<U> Drop for LimitedDecoder<U> {
    fn drop(&mut self) {
        if let Some(reservation) = &self.reservation {
            reservation.hold_until_response(self.reserved);
        }
    }
}
