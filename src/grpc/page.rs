//! Pages of list responses.

use prost::{Message, length_delimiter_len};

use crate::{
    domain::{PageToken, Scope},
    store::Page,
};

/// Maximum bytes of a page's rows. With the token and the other fields, a response is at most 3 MiB, well below the 4
/// MiB that gRPC clients accept by default. The API allows shorter pages; the first row is always sent.
const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024 - 4096;

/// The rows of a page that fit into a response, and the token of the next page: empty on the last.
pub(super) fn truncate_page<T, P: Message + From<T>>(
    page: Page<T>,
    scope: &Scope,
) -> (Vec<P>, String) {
    let mut more = page.more;
    let mut bytes = 0;
    let mut last = None;
    let mut rows = Vec::with_capacity(page.rows.len());
    for (row, cursor) in page.rows {
        let row = P::from(row);
        let length = row.encoded_len();
        // Including the field's tag and the length prefix of the row.
        bytes += 1 + length_delimiter_len(length) + length;
        if bytes > MAX_PAGE_BYTES && !rows.is_empty() {
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

/// `total_size` as a protobuf integer.
pub(super) fn total_size(size: Option<u64>) -> Option<i64> {
    size.map(|size| i64::try_from(size).unwrap_or(i64::MAX))
}
