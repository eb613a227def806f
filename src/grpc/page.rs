//! Pages as callers get them.

use prost::{Message, length_delimiter_len};

use crate::{
    domain::{PageToken, Scope},
    store::Page,
};

/// A page is cut where its rows exceed this many bytes: with its token and the rest it is no larger than 3 MiB, well
/// below the 4 MiB that gRPC clients take by default. The contract allows shorter pages; a row alone is always sent.
const MAX_BYTES: usize = 3 * 1024 * 1024 - 4096;

/// The rows of a page, and the token of the next one: empty on the last.
pub(super) fn fit<T, P: Message + From<T>>(page: Page<T>, scope: &Scope) -> (Vec<P>, String) {
    let mut more = page.more;
    let mut bytes = 0;
    let mut last = None;
    let mut rows = Vec::with_capacity(page.rows.len());
    for (row, cursor) in page.rows {
        let row = P::from(row);
        let length = row.encoded_len();
        // With the field's number and the row's length before it.
        bytes += 1 + length_delimiter_len(length) + length;
        if bytes > MAX_BYTES && !rows.is_empty() {
            more = true;
            break;
        }
        rows.push(row);
        last = Some(cursor);
    }
    let token = match last {
        Some(cursor) if more => PageToken::encode(&cursor, scope),
        _ => String::new(),
    };
    (rows, token)
}

/// `total_size` as the wire has it.
pub(super) fn total(size: Option<u64>) -> Option<i64> {
    size.map(|size| i64::try_from(size).unwrap_or(i64::MAX))
}
