//! Searching for a part of a text: the same rows whatever the engine has an index for.
//!
//! What most rows contain is found soonest by walking along the order of the list; what few rows contain, by an
//! index of trigrams. PostgreSQL chooses by itself; for SQLite it is chosen here; MariaDB and MySQL have no such
//! index.

use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbBackend};

use super::{
    View,
    engine::{self, sqlite},
};
use crate::{domain::SearchQuery, error::Result};

/// A table that is searched.
pub(super) struct Searched {
    /// What its index is named after.
    pub(super) name: &'static str,
    /// With more rows than these that can match, walking is expected to be faster: about where reading and sorting
    /// them costs as much as passing over what lies between a page of them.
    pub(super) most: usize,
}

/// Groups, by title.
pub(super) const GROUPS: Searched = Searched {
    name: "group",
    most: 1000,
};
/// Roles, by name.
pub(super) const ROLES: Searched = Searched {
    name: "role",
    most: 1000,
};
/// Users, by username and names.
pub(super) const USERS: Searched = Searched {
    name: "user",
    most: 4000,
};

/// What a query has come to.
pub(super) struct Found {
    /// Whether a row matches.
    pub(super) condition: Condition,
    /// Whether the condition names all rows that can match, because they are few. Then the list must not be sorted
    /// by what a larger part of it has an index in the order of: SQLite would go through that.
    pub(super) few: bool,
}

/// Whether `text` contains all words of the query; `id` is the row's.
pub(super) async fn found(
    view: &View<'_>,
    searched: &Searched,
    text: impl ColumnTrait,
    id: impl ColumnTrait,
    query: &SearchQuery,
) -> Result<Found> {
    let matching = contains(view, text, query);
    if view.db().get_database_backend() != DbBackend::Sqlite {
        return Ok(Found {
            condition: matching,
            few: false,
        });
    }
    let candidates = sqlite::candidates(view.db(), searched, query).await?;
    // The index only says which rows can match.
    Ok(Found {
        few: candidates.is_some(),
        condition: matching.add_option(candidates.map(|ids| id.in_subquery(ids))),
    })
}

/// Whether a column contains all words of the query.
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
