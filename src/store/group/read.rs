//! Reading groups.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, JoinType,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, RelationTrait, Select,
    sea_query::{Expr, ExprTrait, IntoCondition},
};

use super::{Group, missing, unsigned};
use crate::{
    domain::{
        Cursor, CursorKey, Get, GroupId, ListGroups, Name, Revision, RoleId, RoleRef, SortBy,
        Timestamp, Version,
    },
    entity::{directory, group, group_role, group_user, role},
    error::Result,
    store::{
        At, Page, Read, View,
        page::{Keyset, contains, cut, revision},
        search::{GROUPS, found},
    },
};

const KEYSET: Keyset<group::Column> = Keyset {
    name: group::Column::TitleSort,
    created_at: group::Column::CreatedAt,
    id: group::Column::Id,
};

/// A user's groups, in an index of their own: however many they are, a page of them is a part of it.
const KEYSET_OF_USER: Keyset<group_user::Column> = Keyset {
    name: group_user::Column::TitleSort,
    created_at: group_user::Column::GroupCreatedAt,
    id: group_user::Column::GroupId,
};

/// The same of a role's groups.
const KEYSET_OF_ROLE: Keyset<group_role::Column> = Keyset {
    name: group_role::Column::TitleSort,
    created_at: group_role::Column::GroupCreatedAt,
    id: group_role::Column::GroupId,
};

/// A group beside one of its roles.
#[derive(FromQueryResult)]
struct GroupAndRole {
    id: GroupId,
    title: Name,
    user_count: i64,
    version: Version,
    created_at: Timestamp,
    updated_at: Timestamp,
    role_id: RoleId,
    role_name: Name,
    revision: Revision,
}

impl Read for Get<GroupId> {
    type Output = At<Group>;

    const TELLS: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read(&self, view: &View<'_>) -> Result<At<Group>> {
        get(view, self.id).await
    }
}

/// Gets a group, in one statement: a group always has a role to stand beside.
async fn get(view: &View<'_>, id: GroupId) -> Result<At<Group>> {
    use group::Column as C;
    let rows: Vec<GroupAndRole> = group::Entity::find()
        .select_only()
        .columns([
            C::Id,
            C::Title,
            C::UserCount,
            C::Version,
            C::CreatedAt,
            C::UpdatedAt,
        ])
        .column_as(role::Column::Id, "role_id")
        .column_as(role::Column::Name, "role_name")
        .expr_as(revision(), "revision")
        .join_rev(JoinType::InnerJoin, group_role::Relation::Group.def())
        .join(JoinType::InnerJoin, group_role::Relation::Role.def())
        .filter(C::Id.eq(id))
        .order_by_asc(role::Column::NameSort)
        .order_by_asc(role::Column::Id)
        .into_model()
        .all(view.db())
        .await?;
    let mut rows = rows.into_iter();
    let first = rows.next().ok_or_else(|| missing(id))?;
    view.saw(first.revision);
    let mut roles = vec![RoleRef {
        id: first.role_id,
        name: first.role_name,
    }];
    roles.extend(rows.map(|row| RoleRef {
        id: row.role_id,
        name: row.role_name,
    }));
    let value = Group {
        id: first.id,
        title: first.title,
        roles,
        user_count: first.user_count,
        version: first.version,
        created_at: first.created_at,
        updated_at: first.updated_at,
    };
    Ok(At {
        value,
        revision: first.revision,
    })
}

impl Read for ListGroups {
    type Output = Page<Group>;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read(&self, view: &View<'_>) -> Result<Page<Group>> {
        list(view, self).await
    }
}

async fn list(view: &View<'_>, list: &ListGroups) -> Result<Page<Group>> {
    let page = &list.page;
    let select = matching(view, list).await?;
    let total_size = if list.with_total_size {
        Some(count(view, list, &select).await?)
    } else {
        None
    };
    let select = match (list.user_id, list.role_id) {
        (Some(_), _) => KEYSET_OF_USER.select(select, page),
        (None, Some(_)) => KEYSET_OF_ROLE.select(select, page),
        (None, None) => KEYSET.select(select, page),
    };
    let models = select.all(view.db()).await?;
    let Page { rows, more, .. } = cut(models, page, cursor);
    let mut roles = roles_of(view.db(), rows.iter().map(|(row, _)| row.id)).await?;
    let rows = rows
        .into_iter()
        .map(|(row, cursor)| {
            let roles = roles.remove(&row.id).unwrap_or_default();
            (Group::new(row, roles), cursor)
        })
        .collect();
    Ok(Page {
        rows,
        more,
        revision: view.revision(),
        total_size,
    })
}

/// The groups that are asked for.
async fn matching(view: &View<'_>, list: &ListGroups) -> Result<Select<group::Entity>> {
    use group_role::Column as R;
    let mut select = group::Entity::find();
    if let Some(query) = &list.query {
        use group::Column::{Id, SearchText};
        select = select.filter(match (list.user_id, list.role_id) {
            // A user is in few groups, as a rule: they are looked through.
            (Some(_), _) => contains(SearchText, query).into_condition(),
            (None, Some(_)) => found(view, &GROUPS, SearchText, R::GroupId, query).await?,
            (None, None) => found(view, &GROUPS, SearchText, Id, query).await?,
        });
    }
    Ok(match (list.user_id, list.role_id) {
        (None, None) => select,
        (None, Some(role)) => select
            .join_rev(JoinType::InnerJoin, group_role::Relation::Group.def())
            .filter(R::RoleId.eq(role)),
        (Some(user), role) => {
            let has = |role: RoleId| {
                let given = group_role::Entity::find()
                    .select_only()
                    .column(R::GroupId)
                    .filter(
                        Expr::col(R::GroupId.as_column_ref())
                            .equals(group::Column::Id.as_column_ref()),
                    )
                    .filter(R::RoleId.eq(role));
                Expr::exists(given.into_query())
            };
            select
                .join_rev(JoinType::InnerJoin, group_user::Relation::Group.def())
                .filter(group_user::Column::UserId.eq(user))
                .filter(Condition::all().add_option(role.map(has)))
        }
    })
}

/// How many groups are asked for. What is counted already, in all and of a role, is read; a user's groups are
/// counted in an index; what is searched for is counted by searching for all of it.
async fn count(view: &View<'_>, list: &ListGroups, select: &Select<group::Entity>) -> Result<u64> {
    let counted: Option<i64> = match (&list.query, list.user_id, list.role_id) {
        (None, None, None) => {
            let count = directory::Entity::find().select_only();
            let count = count.column(directory::Column::GroupCount).into_tuple();
            count.one(view.db()).await?
        }
        (None, None, Some(role)) => {
            let count = role::Entity::find_by_id(role).select_only();
            let count = count.column(role::Column::GroupCount).into_tuple();
            Some(count.one(view.db()).await?.unwrap_or(0))
        }
        (None, Some(user), None) => {
            let groups = group_user::Entity::find().select_only();
            let groups = groups.column(group_user::Column::GroupId);
            let groups = groups.filter(group_user::Column::UserId.eq(user));
            return Ok(groups.count(view.db()).await?);
        }
        _ => None,
    };
    match counted {
        Some(count) => Ok(unsigned(count)),
        None => Ok(select.clone().count(view.db()).await?),
    }
}

/// Every role of these groups, by name, in one statement.
async fn roles_of(
    db: &impl ConnectionTrait,
    groups: impl Iterator<Item = GroupId>,
) -> Result<HashMap<GroupId, Vec<RoleRef>>> {
    let rows: Vec<(GroupId, RoleId, Name)> = group_role::Entity::find()
        .select_only()
        .column(group_role::Column::GroupId)
        .columns([role::Column::Id, role::Column::Name])
        .join(JoinType::InnerJoin, group_role::Relation::Role.def())
        .filter(group_role::Column::GroupId.is_in(groups))
        .order_by_asc(role::Column::NameSort)
        .order_by_asc(role::Column::Id)
        .into_tuple()
        .all(db)
        .await?;
    let mut roles: HashMap<_, Vec<_>> = HashMap::new();
    for (group, id, name) in rows {
        roles.entry(group).or_default().push(RoleRef { id, name });
    }
    Ok(roles)
}

fn cursor(group: &group::Model, by: SortBy) -> Cursor {
    Cursor {
        key: match by {
            SortBy::Name | SortBy::Revision => CursorKey::Name(group.title_sort.clone()),
            SortBy::CreateTime => CursorKey::CreateTime(group.created_at),
        },
        id: group.id.uuid(),
    }
}
