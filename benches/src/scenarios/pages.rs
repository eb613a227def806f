//! The last page of every list, in every order, against its first page.

mod list;
mod lists;

use std::time::{Duration, Instant};

use super::{large, latency};
use crate::{
    Run,
    report::Target,
    rounds::{alternate, median},
    server::Server,
};
use list::List;

/// Number of rows on a page.
const ROWS: usize = 50;
/// The maximum page size, used to get to the end of a list that has only one order.
const STEP: usize = 1000;

/// Runs on the large directory, for each order of each list. The page token of the last page is derived from the
/// first page of the reverse order.
pub(super) async fn compare_last_with_first_page(run: &mut Run) {
    let directory = large(run);
    let server = Server::start_sqlite(&directory.path, &[]);
    let channel = server.connect().await;
    for list in lists::all(&directory, &channel) {
        let (rows, token) = last_page(&list).await;
        let (last, first) = alternate(
            run.rounds,
            async || round(&list, rows, &token, run.time / 8).await,
            async || round(&list, rows, "", run.time / 8).await,
        )
        .await;
        let what = format!("{}: last page", list.name);
        let pair = (&*last, &*first);
        run.report.add(latency(
            "pages",
            &what,
            "first page",
            Target::AtMost(1.2),
            pair,
        ));
    }
}

/// The median duration of a page request, in ms.
async fn round(list: &List, rows: usize, token: &str, lasts: Duration) -> f64 {
    let (began, mut measured) = (Instant::now(), Vec::new());
    while measured.len() < 3 || began.elapsed() < lasts {
        let call = Instant::now();
        let page = list.page(rows, token).await;
        measured.push(call.elapsed().as_secs_f64() * 1000.0);
        let end = token.is_empty() || page.next.is_empty();
        assert!(
            page.rows == rows && end,
            "{}: another page: {page:?}",
            list.name
        );
    }
    median(&measured)
}

/// The number of rows on the last page, and its page token.
async fn last_page(list: &List) -> (usize, String) {
    if let Some(token) = list.last(ROWS).await {
        return (ROWS, token);
    }
    let (mut size, mut token) = (STEP, String::new());
    loop {
        let page = list.page(size, &token).await;
        if !page.next.is_empty() {
            token = page.next;
        } else if size == STEP {
            // Again with small pages, from the start of the last large page.
            size = ROWS;
        } else {
            return (page.rows, token);
        }
    }
}
