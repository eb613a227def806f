//! Roles, and their rules.

mod count;
mod read;
mod write;

use std::collections::HashMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use super::page::{Keyset, Page, cut};
use crate::{
    domain::{Cursor, CursorKey, PageRequest, RoleId, Rule, SortBy},
    entity::{role, role_rule},
    error::{Error, Missing, Result},
};

pub(super) use count::{add_group, remove_group};
pub use read::{RoleOfUser, get, list, list_in_group, list_of_user};

/// A page is cut where its roles have more rules than this: they are read in one go.
const MAX_RULES: i64 = 20_000;

const KEYSET: Keyset<role::Column> = Keyset {
    name: role::Column::NameSort,
    created_at: role::Column::CreatedAt,
    id: role::Column::Id,
};

/// A role with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The role.
    pub row: role::Model,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Makes a page of roles from rows, one of them too many, and reads their rules in one statement.
async fn with_rules(
    db: &impl ConnectionTrait,
    models: Vec<role::Model>,
    request: &PageRequest,
) -> Result<Page<Role>> {
    let mut page = cut(models, request, cursor);
    let mut rules = 0;
    let fit = page.rows.iter().take_while(|(row, _)| {
        rules += row.rule_count;
        rules <= MAX_RULES
    });
    let fit = fit.count().max(1);
    page.more |= page.rows.len() > fit;
    page.rows.truncate(fit);

    let mut rules = rules_of(db, page.rows.iter().map(|(row, _)| row.id)).await?;
    let with_rules = |row: role::Model| Role {
        rules: rules.remove(&row.id).unwrap_or_default(),
        row,
    };
    Ok(page.map(with_rules))
}

/// The rules of these roles, in order, in one statement.
async fn rules_of(
    db: &impl ConnectionTrait,
    ids: impl Iterator<Item = RoleId>,
) -> Result<HashMap<RoleId, Vec<Rule>>> {
    let rows = role_rule::Entity::find()
        .filter(role_rule::Column::RoleId.is_in(ids))
        .all(db)
        .await?;
    let mut rules: HashMap<_, Vec<Rule>> = HashMap::new();
    for row in rows {
        rules.entry(row.role_id).or_default().push(row.into());
    }
    rules.values_mut().for_each(|rules| rules.sort_unstable());
    Ok(rules)
}

fn cursor(role: &role::Model, by: SortBy) -> Cursor {
    Cursor {
        key: match by {
            SortBy::Name | SortBy::Revision => CursorKey::Name(role.name_sort.clone()),
            SortBy::CreateTime => CursorKey::CreateTime(role.created_at),
        },
        id: role.id.uuid(),
    }
}

fn missing(id: RoleId) -> Error {
    Error::NotFound(Missing::Roles(vec![id]))
}
