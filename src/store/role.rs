//! Roles.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ActiveValue::Unchanged,
    ColumnTrait, DatabaseTransaction, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect,
    RelationTrait,
    sea_query::{Expr, ExprTrait},
};

use super::{
    Db, Page, Write,
    page::{Keyset, contains, cut},
};
use crate::{
    domain::{
        CreateRole, Cursor, CursorKey, DeleteRole, Folded, ListRoles, ListRolesInGroup, Name,
        RoleId, SortBy, Timestamp, UpdateRole, Version,
    },
    entity::{group, group_role, role},
    error::{Error, Missing, Result},
};

/// How many of the groups that have a role are named when it can't be deleted.
const NAMED_GROUPS: u64 = 10;

const KEYSET: Keyset<role::Column> = Keyset {
    name: role::Column::NameSort,
    created_at: role::Column::CreatedAt,
    id: role::Column::Id,
};

/// Gets a role.
///
/// # Errors
/// Not found, or the database is unavailable.
pub async fn get(db: &Db, id: RoleId) -> Result<role::Model> {
    let found = role::Entity::find_by_id(id).one(&db.reader).await?;
    found.ok_or_else(|| missing(id))
}

/// Lists roles.
///
/// # Errors
/// The database is unavailable.
pub async fn list(db: &Db, list: &ListRoles) -> Result<Page<role::Model>> {
    let ListRoles { page, query } = list;
    let mut select = role::Entity::find();
    if let Some(query) = query {
        select = select.filter(contains(role::Column::SearchText, query));
    }
    let models = KEYSET.select(select, page).all(&db.reader).await?;
    Ok(cut(models, page, cursor))
}

/// Lists the roles of a group.
///
/// # Errors
/// The group isn't there, or the database is unavailable.
pub async fn list_in_group(db: &Db, list: &ListRolesInGroup) -> Result<Page<role::Model>> {
    let ListRolesInGroup { group_id, page } = list;
    let select = role::Entity::find()
        .join_rev(JoinType::InnerJoin, group_role::Relation::Role.def())
        .filter(group_role::Column::GroupId.eq(*group_id));
    let models = KEYSET.select(select, page).all(&db.reader).await?;
    // A group always has a role: only an empty page leaves open whether the group is there.
    if models.is_empty() {
        super::group::must_exist(&db.reader, *group_id).await?;
    }
    Ok(cut(models, page, cursor))
}

impl Write for CreateRole {
    type Output = role::Model;

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<role::Model> {
        let now = Timestamp::now();
        let row = role::ActiveModel {
            id: Set(RoleId::generate()),
            description: Set(self.description.clone()),
            group_count: Set(0),
            version: Set(Version::FIRST),
            created_at: Set(now),
            updated_at: Set(now),
            ..named(&self.name)
        };
        Ok(row.insert(tx).await?)
    }
}

impl Write for UpdateRole {
    type Output = role::Model;

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<role::Model> {
        let role = lock(tx, self.id).await?.ok_or_else(|| missing(self.id))?;
        if !role.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        let name = self.name.as_ref().filter(|name| **name != role.name);
        let description = self
            .description
            .as_ref()
            .filter(|note| **note != role.description);
        if name.is_none() && description.is_none() {
            return Ok(role);
        }
        let mut row = name.map(named).unwrap_or_default();
        if let Some(description) = description {
            row.description = Set(description.clone());
        }
        row.id = Unchanged(role.id);
        row.version = Set(role.version.next());
        row.updated_at = Set(Timestamp::now());
        Ok(row.update(tx).await?)
    }
}

impl Write for DeleteRole {
    type Output = ();

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<()> {
        let Some(role) = lock(tx, self.id).await? else {
            return if self.allow_missing {
                Ok(())
            } else {
                Err(missing(self.id))
            };
        };
        if !role.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        // Giving a role to a group writes the role's row, too: the count is true while we hold the row.
        if role.group_count > 0 {
            return Err(Error::RoleInUse {
                role: role.id,
                group_count: role.group_count,
                groups: first_groups(tx, role.id).await?,
            });
        }
        role::Entity::delete_by_id(role.id).exec(tx).await?;
        Ok(())
    }
}

/// Counts one group more for each of these roles, and answers with them.
///
/// # Errors
/// Names every role that isn't there.
pub(super) async fn add_group(
    tx: &DatabaseTransaction,
    ids: &[RoleId],
) -> Result<Vec<role::Model>> {
    let roles = role::Entity::update_many()
        .col_expr(
            role::Column::GroupCount,
            Expr::col(role::Column::GroupCount).add(1),
        )
        .filter(role::Column::Id.is_in(ids.iter().copied()))
        .exec_with_returning(tx)
        .await?;
    let absent: Vec<_> = ids
        .iter()
        .filter(|id| roles.iter().all(|role| role.id != **id))
        .copied()
        .collect();
    if absent.is_empty() {
        Ok(roles)
    } else {
        Err(Error::NotFound(Missing::Roles(absent)))
    }
}

/// Counts one group less for each role that `which` selects.
pub(super) async fn remove_group(tx: &DatabaseTransaction, which: Expr) -> Result<()> {
    role::Entity::update_many()
        .col_expr(
            role::Column::GroupCount,
            Expr::col(role::Column::GroupCount).sub(1),
        )
        .filter(which)
        .exec(tx)
        .await?;
    Ok(())
}

async fn lock(tx: &DatabaseTransaction, id: RoleId) -> Result<Option<role::Model>> {
    Ok(role::Entity::find_by_id(id)
        .lock_exclusive()
        .one(tx)
        .await?)
}

async fn first_groups(
    tx: &DatabaseTransaction,
    id: RoleId,
) -> Result<Vec<(crate::domain::GroupId, Name)>> {
    let groups = group::Entity::find()
        .select_only()
        .columns([group::Column::Id, group::Column::Title])
        .filter(super::group::has_role(id))
        .order_by_asc(group::Column::TitleSort)
        .order_by_asc(group::Column::Id)
        .limit(NAMED_GROUPS)
        .into_tuple()
        .all(tx)
        .await?;
    Ok(groups)
}

fn named(name: &Name) -> role::ActiveModel {
    role::ActiveModel {
        name: Set(name.clone()),
        name_key: Set(name.unique_key()),
        name_sort: Set(name.sort_key()),
        search_text: Set(Folded::name(name)),
        ..Default::default()
    }
}

fn cursor(role: &role::Model, by: SortBy) -> Cursor {
    Cursor {
        key: match by {
            SortBy::Name => CursorKey::Name(role.name_sort.clone()),
            SortBy::CreateTime => CursorKey::CreateTime(role.created_at),
        },
        id: role.id.uuid(),
    }
}

fn missing(id: RoleId) -> Error {
    Error::NotFound(Missing::Roles(vec![id]))
}
