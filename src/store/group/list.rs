//! Listing groups.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, RelationTrait, Select,
    sea_query::{Expr, ExprTrait},
};

use super::{Group, unsigned};
use crate::{
    domain::{Cursor, CursorKey, GroupId, ListGroups, Name, Revision, RoleId, RoleRef, SortBy},
    entity::{directory, group, group_role, group_user, role},
    error::Result,
    store::{
        Page, Read, View,
        page::{Keyset, cut, cut_at},
        search::{Found, GROUPS, contains, found},
    },
};

/// A page is cut where its groups have more roles than this: they are read in one go.
const MAX_ROLES: i64 = 20_000;

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

impl Read for ListGroups {
    type Output = Page<Group>;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    fn searches(&self) -> bool {
        self.query.is_some()
    }

    async fn read(&self, view: &View<'_>) -> Result<Page<Group>> {
        list(view, self).await
    }
}

async fn list(view: &View<'_>, list: &ListGroups) -> Result<Page<Group>> {
    let page = &list.page;
    let among = among(view, list).await?;
    let (select, few) = matching(view, list, among).await?;
    let total_size = if list.with_total_size {
        Some(count(view, list, &select).await?)
    } else {
        None
    };
    let select = match among {
        _ if few => KEYSET.select(select, page),
        Among::OfUser => KEYSET_OF_USER.select(select, page),
        Among::OfRole => KEYSET_OF_ROLE.select(select, page),
        Among::All => KEYSET.select(select, page),
    };
    let models = select.all(view.db()).await?;
    let mut page = cut(models, page, cursor);
    cut_at(&mut page, MAX_ROLES, |row| row.role_count);
    let Page { rows, more, .. } = page;
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

/// Which groups are gone through, in order.
#[derive(Clone, Copy)]
enum Among {
    All,
    OfUser,
    OfRole,
}

/// A role that has no more groups is the better one to go through, beside a user.
const FEW: i64 = 500;

async fn among(view: &View<'_>, list: &ListGroups) -> Result<Among> {
    Ok(match (list.user_id, list.role_id) {
        (None, None) => Among::All,
        (None, Some(_)) => Among::OfRole,
        (Some(_), None) => Among::OfUser,
        (Some(_), Some(role)) => match group_count(view, role).await? {
            ..=FEW => Among::OfRole,
            _ => Among::OfUser,
        },
    })
}

/// How many groups have the role: a column.
async fn group_count(view: &View<'_>, role: RoleId) -> Result<i64> {
    let count: Option<i64> = role::Entity::find_by_id(role)
        .select_only()
        .column(role::Column::GroupCount)
        .into_tuple()
        .one(view.db())
        .await?;
    Ok(count.unwrap_or(0))
}

/// The groups that are asked for, and whether they are few of all that are gone through.
async fn matching(
    view: &View<'_>,
    list: &ListGroups,
    among: Among,
) -> Result<(Select<group::Entity>, bool)> {
    use group::Column::{Id, SearchText};
    use group_role::{Column as R, Relation as OfRole};
    use group_user::{Column as U, Relation as OfUser};
    let mut few = false;
    let mut select = group::Entity::find();
    if let Some(query) = &list.query {
        let found = match among {
            // A user is in few groups, as a rule: they are looked through.
            Among::OfUser => Found {
                condition: contains(view, SearchText, query),
                few: false,
            },
            Among::OfRole => found(view, &GROUPS, SearchText, R::GroupId, query).await?,
            Among::All => found(view, &GROUPS, SearchText, Id, query).await?,
        };
        few = found.few;
        select = select.filter(found.condition);
    }
    let has_role = list.role_id.map(|role| R::RoleId.eq(role));
    let has_user = list.user_id.map(|user| U::UserId.eq(user));
    let of = |column: Expr| column.equals(Id.as_column_ref());
    let select = match among {
        Among::All => select,
        Among::OfRole => {
            let users = group_user::Entity::find().select_only().column(U::GroupId);
            let users = users.filter(of(Expr::col(U::GroupId.as_column_ref())));
            let users = has_user.map(|wanted| Expr::exists(users.filter(wanted).into_query()));
            select
                .join_rev(JoinType::InnerJoin, OfRole::Group.def())
                .filter(Condition::all().add_option(has_role).add_option(users))
        }
        Among::OfUser => {
            let roles = group_role::Entity::find().select_only().column(R::GroupId);
            let roles = roles.filter(of(Expr::col(R::GroupId.as_column_ref())));
            let roles = has_role.map(|wanted| Expr::exists(roles.filter(wanted).into_query()));
            select
                .join_rev(JoinType::InnerJoin, OfUser::Group.def())
                .filter(Condition::all().add_option(has_user).add_option(roles))
        }
    };
    Ok((select, few))
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
        (None, None, Some(role)) => Some(group_count(view, role).await?),
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
        within: None,
    }
}
