//! Roles and their rules.

mod group_roles;
mod of_user;
mod read;
mod write;

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, Iterable, QueryFilter, QuerySelect,
    sea_query::IntoCondition,
};

use super::{
    View,
    page::{Keyset, Page, paginate, truncate_by_weight},
};
use crate::{
    domain::{Cursor, CursorKey, PageRequest, Revision, RoleId, Rule, SortBy},
    entity::{directory, role, role_rule},
    error::{Error, MissingResource, Result},
};

pub(super) use group_roles::{delete_group_roles, insert_group_roles, require_roles};
pub use of_user::RoleOfUser;

/// A page is truncated before its roles have more rules than this in total: all of them are read at once.
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

/// A role's row and the revision that it was read at.
#[derive(FromQueryResult)]
pub(super) struct RoleAtRevision {
    #[sea_orm(nested)]
    pub(super) role: role::Model,
    pub(super) revision: Revision,
}

impl Role {
    fn new(row: role::Model, rules: &mut HashMap<RoleId, Vec<Rule>>) -> Self {
        Self {
            rules: rules.remove(&row.id).unwrap_or_default(),
            row,
        }
    }
}

/// Builds a page of roles from rows, with one row beyond the page if there are more, and reads their rules in one
/// statement.
async fn with_rules(
    db: &impl ConnectionTrait,
    models: Vec<role::Model>,
    request: &PageRequest,
) -> Result<Page<Role>> {
    let page = paginate_with_rule_limit(models, request);
    let mut rules = rules_of(db, page.rows.iter().map(|(row, _)| row.id)).await?;
    Ok(page.map(|row| Role::new(row, &mut rules)))
}

/// Builds a page of roles from rows, with one row beyond the page if there are more.
fn paginate_with_rule_limit(models: Vec<role::Model>, request: &PageRequest) -> Page<role::Model> {
    let mut page = paginate(models, request, cursor);
    truncate_by_weight(&mut page, MAX_RULES, |row| row.rule_count);
    page
}

/// The rules of these roles, sorted, read in one statement.
async fn rules_of(
    db: &impl ConnectionTrait,
    ids: impl Iterator<Item = RoleId>,
) -> Result<HashMap<RoleId, Vec<Rule>>> {
    let rows = role_rule::Entity::find()
        .filter(role_rule::Column::RoleId.is_in(ids))
        .all(db)
        .await?;
    Ok(by_role(rows))
}

/// The rules that match a condition, sorted, read in one statement that also reports the revision it saw.
pub(super) async fn rules_with_revision(
    view: &View<'_>,
    wanted: impl IntoCondition,
) -> Result<HashMap<RoleId, Vec<Rule>>> {
    // `directory` always has one row: joining from it returns the revision even if no rule matches.
    let mut select = directory::Entity::find()
        .select_only()
        .column_as(directory::Column::Revision, "revision")
        .columns(role_rule::Column::iter());
    QuerySelect::query(&mut select).left_join(role_rule::Entity, wanted.into_condition());
    let rows = select.into_model::<RuleAtRevision>().all(view.db()).await?;
    rows.iter()
        .for_each(|row| view.observe_revision(row.revision));
    Ok(by_role(rows.into_iter().filter_map(|row| row.rule)))
}

/// A rule, if there is one, and the revision that it was read at.
#[derive(FromQueryResult)]
struct RuleAtRevision {
    revision: Revision,
    #[sea_orm(nested)]
    rule: Option<role_rule::Model>,
}

fn by_role(rows: impl IntoIterator<Item = role_rule::Model>) -> HashMap<RoleId, Vec<Rule>> {
    let mut rules: HashMap<_, Vec<Rule>> = HashMap::new();
    for row in rows {
        rules.entry(row.role_id).or_default().push(row.into());
    }
    rules.values_mut().for_each(|rules| rules.sort_unstable());
    rules
}

fn cursor(role: &role::Model, by: SortBy) -> Cursor {
    Cursor {
        key: match by {
            SortBy::Name | SortBy::Revision => CursorKey::Name(role.name_sort.clone()),
            SortBy::CreateTime => CursorKey::CreateTime(role.created_at),
        },
        id: role.id.uuid(),
        within: None,
    }
}

fn missing(id: RoleId) -> Error {
    Error::NotFound(MissingResource::Roles(vec![id]))
}
