//! Substring search in a time that depends on the length of the text alone. With `LIKE '%…%'`, every engine compares
//! most of the word at each position of a text that repeats one letter.

use sea_orm::{
    ColumnTrait, DbBackend, Value,
    sea_query::{Expr, ExprTrait, LikeExpr},
};

/// The escape character of `LIKE` patterns.
const ESCAPE: char = '!';
/// Maximum number of characters that PostgreSQL's `LIKE` compares at each position of a text.
const CHUNK: usize = 8;

/// The condition that `column` contains `word`. Both are folded for searching already.
pub(in crate::store) fn contains(backend: DbBackend, column: impl ColumnTrait, word: &str) -> Expr {
    let text = Expr::col(column.as_column_ref());
    match backend {
        DbBackend::Postgres => postgres(text, word),
        DbBackend::MySql => mysql(text, word),
        // SQLite's `instr` compares with `memcmp`.
        _ => Expr::cust_with_exprs("instr(?, ?) > 0", [text, Expr::val(word)]),
    }
}

/// `LIKE` uses the trigram index. For a word longer than [`CHUNK`], its pattern only matches the word's chunks in
/// order, each after the one before; `position` of bytes, which compares with `memcmp`, then checks the whole word.
fn postgres(text: Expr, word: &str) -> Expr {
    let mut pattern = String::from("%");
    let mut length = 0;
    for c in word.chars() {
        if length > 0 && length % CHUNK == 0 {
            pattern.push('%');
        }
        if matches!(c, '%' | '_' | ESCAPE) {
            pattern.push(ESCAPE);
        }
        pattern.push(c);
        length += 1;
    }
    pattern.push('%');
    let pieces = text.clone().like(LikeExpr::new(pattern).escape(ESCAPE));
    if length <= CHUNK {
        return pieces;
    }
    let whole = "position(convert_to($1, 'UTF8') IN convert_to($2, 'UTF8')) > 0";
    pieces.and(Expr::cust_with_exprs(whole, [Expr::val(word), text]))
}

/// In binary strings, MariaDB searches for `%word%` with Turbo Boyer-Moore, as long as the pattern has no escape and no
/// other wildcard. Therefore `%` and `_` are replaced on both sides by bytes that never occur in UTF-8. `ESCAPE` names
/// a control character that no word contains.
fn mysql(text: Expr, word: &str) -> Expr {
    let mut bytes = Expr::cust_with_exprs("CAST(? AS BINARY)", [text]);
    let mut pattern = word.as_bytes().to_vec();
    for (wildcard, instead, sql) in [
        (b'%', 0xfe, "REPLACE(?, '%', X'FE')"),
        (b'_', 0xff, "REPLACE(?, '_', X'FF')"),
    ] {
        if pattern.contains(&wildcard) {
            bytes = Expr::cust_with_exprs(sql, [bytes]);
            for byte in pattern.iter_mut().filter(|byte| **byte == wildcard) {
                *byte = instead;
            }
        }
    }
    let pattern = [b"%", &pattern[..], b"%"].concat();
    let pattern = Value::Bytes(Some(pattern));
    Expr::cust_with_exprs("? LIKE ? ESCAPE X'01'", [bytes, Expr::val(pattern)])
}
