//! Reading roles.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, RelationTrait,
};

use super::{KEYSET, Role, missing, rules_of, with_rules};
use crate::{
    domain::{
        Get, GroupId, GroupRef, ListRoles, ListRolesInGroup, ListRolesOfUser, Name, Revision,
        RoleId,
    },
    entity::{group, group_role, group_user, role},
    error::Result,
    store::{
        At, Db, Page,
        page::{contains, revision},
    },
};

/// A role, and the groups of a user that give it.
#[derive(Clone, Debug)]
pub struct RoleOfUser {
    /// The role.
    pub role: Role,
    /// The groups, by title.
    pub groups: Vec<GroupRef>,
}

/// A role beside the revision that it was read at.
#[derive(FromQueryResult)]
struct RoleAt {
    #[sea_orm(nested)]
    role: role::Model,
    revision: Revision,
}

/// Gets a role.
///
/// # Errors
/// Not found, or the database is unavailable.
pub async fn get(db: &Db, get: Get<RoleId>) -> Result<At<Role>> {
    let Get { id, min_revision } = get;
    let (snapshot, revision) = db.seen(min_revision).await?;
    let found = role::Entity::find_by_id(id).one(&snapshot).await?;
    let row = found.ok_or_else(|| missing(id))?;
    let rules = rules_of(&snapshot, std::iter::once(id)).await?.remove(&id);
    let value = Role {
        row,
        rules: rules.unwrap_or_default(),
    };
    Ok(At { value, revision })
}

/// Lists roles.
///
/// # Errors
/// The database is unavailable.
pub async fn list(db: &Db, list: &ListRoles) -> Result<Page<Role>> {
    let ListRoles {
        page,
        query,
        min_revision,
    } = list;
    let mut select = role::Entity::find();
    if let Some(query) = query {
        select = select.filter(contains(role::Column::SearchText, query));
    }
    let (snapshot, revision) = db.seen(*min_revision).await?;
    let models = KEYSET.select(select, page).all(&snapshot).await?;
    let page = with_rules(&snapshot, models, page).await?;
    Ok(Page { revision, ..page })
}

/// Lists the roles of a group, in two statements: the roles beside the revision, and their rules.
///
/// # Errors
/// The group isn't there, or the database is unavailable.
pub async fn list_in_group(db: &Db, list: &ListRolesInGroup) -> Result<Page<Role>> {
    let ListRolesInGroup {
        group_id,
        page,
        min_revision,
    } = list;
    let select = role::Entity::find()
        .expr_as(revision(), "revision")
        .join_rev(JoinType::InnerJoin, group_role::Relation::Role.def())
        .filter(group_role::Column::GroupId.eq(*group_id));
    db.reached(*min_revision).await?;
    let snapshot = db.snapshot().await?;
    let rows: Vec<RoleAt> = KEYSET
        .select(select, page)
        .into_model()
        .all(&snapshot)
        .await?;
    let revision = match rows.first() {
        Some(row) => row.revision,
        None => {
            // A group always has a role: only an empty page leaves open whether the group is there.
            crate::store::group::must_exist(&snapshot, *group_id).await?;
            crate::store::change::directory(&snapshot).await?.revision
        }
    };
    let models = rows.into_iter().map(|row| row.role).collect();
    let page = with_rules(&snapshot, models, page).await?;
    Ok(Page { revision, ..page })
}

/// Lists the roles of a user, every role once.
///
/// # Errors
/// The user isn't there, or the database is unavailable.
pub async fn list_of_user(db: &Db, list: &ListRolesOfUser) -> Result<Page<RoleOfUser>> {
    let ListRolesOfUser {
        user_id,
        page,
        min_revision,
    } = list;
    let (snapshot, revision) = db.seen(*min_revision).await?;
    let given = group_role::Entity::find()
        .select_only()
        .column(group_role::Column::RoleId)
        .join(JoinType::InnerJoin, group_role::Relation::GroupUser.def())
        .filter(group_user::Column::UserId.eq(*user_id))
        .into_query();
    let select = role::Entity::find().filter(role::Column::Id.in_subquery(given));
    let models = KEYSET.select(select, page).all(&snapshot).await?;
    if models.is_empty() {
        crate::store::user::must_exist(&snapshot, *user_id).await?;
    }
    let page = with_rules(&snapshot, models, page).await?;

    let rows: Vec<(RoleId, GroupId, Name)> = group_role::Entity::find()
        .select_only()
        .column(group_role::Column::RoleId)
        .columns([group::Column::Id, group::Column::Title])
        .join(JoinType::InnerJoin, group_role::Relation::Group.def())
        .join(JoinType::InnerJoin, group_role::Relation::GroupUser.def())
        .filter(group_user::Column::UserId.eq(*user_id))
        .filter(group_role::Column::RoleId.is_in(page.rows.iter().map(|(role, _)| role.row.id)))
        .order_by_asc(group::Column::TitleSort)
        .order_by_asc(group::Column::Id)
        .into_tuple()
        .all(&snapshot)
        .await?;
    let mut groups: HashMap<_, Vec<_>> = HashMap::new();
    for (role, id, title) in rows {
        groups.entry(role).or_default().push(GroupRef { id, title });
    }
    let page = page.map(|role| RoleOfUser {
        groups: groups.remove(&role.row.id).unwrap_or_default(),
        role,
    });
    Ok(Page { revision, ..page })
}
