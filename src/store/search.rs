//! Substring search, with the same results whether or not the engine has an index for it.
//!
//! A frequent text is found fastest by scanning the list in its order, a rare text by a trigram index. PostgreSQL
//! chooses between them itself; for SQLite the choice is made here; MariaDB and MySQL have no such index.

use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbBackend};

use super::{
    View,
    engine::{self, sqlite},
};
use crate::{domain::SearchQuery, error::Result};

/// A searchable table.
pub(super) struct SearchTarget {
    /// Prefix of the index's name.
    pub(super) name: &'static str,
    /// With more candidate rows than this, scanning the list in its order is expected to be faster: about where reading
    /// and sorting the candidates costs as much as skipping the rows that don't match.
    pub(super) max_candidates: usize,
}

/// Groups, by title.
pub(super) const GROUPS: SearchTarget = SearchTarget {
    name: "group",
    max_candidates: 1000,
};
/// Roles, by name.
pub(super) const ROLES: SearchTarget = SearchTarget {
    name: "role",
    max_candidates: 1000,
};
/// Users, by username and names.
pub(super) const USERS: SearchTarget = SearchTarget {
    name: "user",
    max_candidates: 4000,
};

/// The filter for a search query.
pub(super) struct SearchFilter {
    /// Selects the matching rows.
    pub(super) condition: Condition,
    /// Whether the condition enumerates the candidate rows because they are few. Then the list must not be sorted by
    /// the columns of an index over a larger part of the table, such as all users of a group: SQLite would scan that
    /// index instead.
    pub(super) is_selective: bool,
}

/// Selects rows whose column `text` contains all words of the query; `id` is the row's id column.
pub(super) async fn search_filter(
    view: &View<'_>,
    searched: &SearchTarget,
    text: impl ColumnTrait,
    id: impl ColumnTrait,
    query: &SearchQuery,
) -> Result<SearchFilter> {
    let matching = contains(view, text, query);
    if view.db().get_database_backend() != DbBackend::Sqlite {
        return Ok(SearchFilter {
            condition: matching,
            is_selective: false,
        });
    }
    let candidates = sqlite::candidates(view.db(), searched, query).await?;
    // The index yields candidates only: it may return rows that don't match.
    Ok(SearchFilter {
        is_selective: candidates.is_some(),
        condition: matching.add_option(candidates.map(|ids| id.in_subquery(ids))),
    })
}

/// Selects rows whose column contains all words of the query.
pub(super) fn contains(
    view: &View<'_>,
    column: impl ColumnTrait,
    query: &SearchQuery,
) -> Condition {
    let backend = view.db().get_database_backend();
    let words = query.words().iter();
    words.fold(Condition::all(), |all, word| {
        all.add(engine::contains(backend, column, word))
    })
}
