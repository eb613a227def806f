//! The codec of the generated services: prost's, with limits on what a request may take once it is decoded.
//!
//! A few bytes can stand for much memory: an empty message in a list takes two bytes on the wire and a hundred decoded.
//! So the lists of a request are counted before it is decoded, and what it will take is counted against the memory limit
//! of messages. Responses, which clients decode by the same codec, have no limits.

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
use self::lists::{Refusal, count_entries};
use crate::{domain::FieldViolation, error::Error, listen::Load};

/// What an entry of a list takes at most beside its texts, in bytes: its place in the list, which is copied while it
/// grows, and the allocations of its texts. The fuzz target `decoder` fails if a message takes more.
const ENTRY_COST: usize = 384;

tokio::task_local! {
    /// What the call under way is counted by.
    static LOAD: Arc<Load>;
}

/// Polls a call, whose requests are then counted by `load`.
pub(crate) fn with_load<T>(load: Option<Arc<Load>>, poll: impl FnOnce() -> T) -> T {
    match load {
        Some(load) => LOAD.sync_scope(load, poll),
        None => poll(),
    }
}

/// A message that an RPC has as its request or response. `build.rs` implements it for each.
pub trait Received: Message + Default {
    /// The lists of a request; none for a response, which isn't limited.
    const LISTS: Option<&'static [Field]>;
}

/// prost's codec, which decodes requests with limits.
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
    U: Received + Send + 'static,
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
            load: LOAD.try_with(Clone::clone).ok(),
            charged: 0,
        }
    }
}

/// The decoder of [`LimitedCodec`].
#[derive(Debug)]
pub struct LimitedDecoder<U> {
    inner: ProstDecoder<U>,
    load: Option<Arc<Load>>,
    /// What is counted for the largest message so far: at least one of them is still in use.
    charged: usize,
}

impl<U: Received> LimitedDecoder<U> {
    fn admit(&mut self, lists: &[Field], message: &[u8]) -> Result<(), Status> {
        let entries = count_entries(lists, message).map_err(|refusal| match refusal {
            Refusal::Malformed => Status::internal("malformed protobuf"),
            Refusal::TooMany(field) => too_many(field),
        })?;
        let cost = cost(message.len(), entries);
        if let Some(load) = &self.load
            && cost > self.charged
        {
            if !load.reserve(cost - self.charged) {
                return Err(Error::Overloaded("messages take too much memory".into()).into());
            }
            self.charged = cost;
        }
        Ok(())
    }
}

/// What a request takes at most: the buffer that it is decompressed into, its texts once more, and its lists.
fn cost(size: usize, entries: usize) -> usize {
    2 * size + ENTRY_COST * entries
}

fn too_many(field: String) -> Status {
    let description =
        format!("is too long: all lists of a request have at most {MAX_ENTRIES} entries");
    Error::Invalid(vec![FieldViolation { field, description }]).into()
}

impl<U: Received> Decoder for LimitedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if let Some(lists) = U::LISTS {
            // A buffer of tonic's is one chunk. If it weren't, only what is counted would be let in.
            let message = buffer.chunk();
            if message.len() != buffer.remaining() {
                return Err(Status::internal("a message in several chunks"));
            }
            self.admit(lists, message)?;
        }
        self.inner.decode(buffer)
    }
}

impl<U> Drop for LimitedDecoder<U> {
    fn drop(&mut self) {
        if let Some(load) = &self.load {
            load.decoded(self.charged);
        }
    }
}
