//! The last page of every list, in every order, against its first.

mod list;
mod lists;

use std::time::{Duration, Instant};

use super::{large, latency};
use crate::{
    Run,
    report::Wanted,
    rounds::{alternate, median},
    server::Server,
};
use list::List;

/// How many rows a page has.
const ROWS: usize = 50;
/// As many as a page may have, to get to the end of a list that has only one order.
const STEP: usize = 1000;

/// On the large directory. A list's orders are asked for one by one; the page before the last ends where the
/// first page of the reverse order does.
pub(super) async fn last_against_first(run: &mut Run) {
    let directory = large(run);
    let server = Server::on_file(&directory.path, &[]);
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
            Wanted::AtMost(1.2),
            pair,
        ));
    }
}

/// The median in ms of what a page takes.
async fn round(list: &List, rows: usize, token: &str, lasts: Duration) -> f64 {
    let (began, mut seen) = (Instant::now(), Vec::new());
    while seen.len() < 3 || began.elapsed() < lasts {
        let call = Instant::now();
        let page = list.page(rows, token).await;
        seen.push(call.elapsed().as_secs_f64() * 1000.0);
        let end = token.is_empty() || page.next.is_empty();
        assert!(
            page.rows == rows && end,
            "{}: another page: {page:?}",
            list.name
        );
    }
    median(&seen)
}

/// How many rows the last page has, and its token.
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
            // Once more in smaller steps, from where the last large page begins.
            size = ROWS;
        } else {
            return (page.rows, token);
        }
    }
}
