//! Whether a column contains a word, in a time that grows with the text alone: by `LIKE '%…%'` every engine compares
//! most of the word at each place of a text of one letter.

use sea_orm::{
    ColumnTrait, DbBackend, Value,
    sea_query::{Expr, ExprTrait, LikeExpr},
};

/// Takes the meaning from a wildcard.
const ESCAPE: char = '!';
/// So many characters are compared at each place of a text by PostgreSQL's `LIKE`.
const PIECE: usize = 8;

/// Whether `column` contains `word`, both folded.
pub(in crate::store) fn contains(backend: DbBackend, column: impl ColumnTrait, word: &str) -> Expr {
    let text = Expr::col(column.as_column_ref());
    match backend {
        DbBackend::Postgres => postgres(text, word),
        DbBackend::MySql => mysql(text, word),
        // It compares by `memcmp`.
        _ => Expr::cust_with_exprs("instr(?, ?) > 0", [text, Expr::val(word)]),
    }
}

/// `LIKE` looks into the index of trigrams. For longer words it is only asked for their pieces, in order, each of which
/// is looked for behind the one before; bytes are compared by `memcmp`.
fn postgres(text: Expr, word: &str) -> Expr {
    let mut pattern = String::from("%");
    let mut length = 0;
    for c in word.chars() {
        if length > 0 && length % PIECE == 0 {
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
    if length <= PIECE {
        return pieces;
    }
    let whole = "position(convert_to($1, 'UTF8') IN convert_to($2, 'UTF8')) > 0";
    pieces.and(Expr::cust_with_exprs(whole, [Expr::val(word), text]))
}

/// Of bytes, and without an escape or another wildcard, MariaDB looks for `%word%` by Turbo Boyer-Moore. What would be a
/// wildcard is a byte on both sides that no UTF-8 has. No word has the control character that `ESCAPE` names.
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
