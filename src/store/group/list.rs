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
        page::{Keyset, paginate, truncate_by_weight},
        search::{GROUPS, SearchFilter, contains, search_filter},
    },
};

/// A page is truncated before its groups have more roles than this in total: all of them are read at once.
const MAX_ROLES: i64 = 20_000;

const KEYSET: Keyset<group::Column> = Keyset {
    name: group::Column::TitleSort,
    created_at: group::Column::CreatedAt,
    id: group::Column::Id,
};

/// Keyset of a user's groups. `group_users` has an index in this order, so a page is one index range however many
/// groups the user has.
const KEYSET_OF_USER: Keyset<group_user::Column> = Keyset {
    name: group_user::Column::TitleSort,
    created_at: group_user::Column::GroupCreatedAt,
    id: group_user::Column::GroupId,
};

/// Keyset of a role's groups, in an index of `group_roles`.
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
    let driving_table = driving_table(view, list).await?;
    let (select, is_selective) = matching(view, list, driving_table).await?;
    let total_size = if list.with_total_size {
        Some(count(view, list, &select).await?)
    } else {
        None
    };
    let select = match driving_table {
        _ if is_selective => KEYSET.select(select, page),
        DrivingTable::OfUser => KEYSET_OF_USER.select(select, page),
        DrivingTable::OfRole => KEYSET_OF_ROLE.select(select, page),
        DrivingTable::All => KEYSET.select(select, page),
    };
    let models = select.all(view.db()).await?;
    let mut page = paginate(models, page, cursor);
    truncate_by_weight(&mut page, MAX_ROLES, |row| row.role_count);
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

/// The table whose index order drives the list.
#[derive(Clone, Copy)]
enum DrivingTable {
    All,
    OfUser,
    OfRole,
}

/// If a list is filtered by user and role, the role's groups drive it when there are at most this many, otherwise the
/// user's.
const MAX_DRIVING_ROLE_GROUPS: i64 = 500;

async fn driving_table(view: &View<'_>, list: &ListGroups) -> Result<DrivingTable> {
    Ok(match (list.user_id, list.role_id) {
        (None, None) => DrivingTable::All,
        (None, Some(_)) => DrivingTable::OfRole,
        (Some(_), None) => DrivingTable::OfUser,
        (Some(_), Some(role)) => match group_count(view, role).await? {
            ..=MAX_DRIVING_ROLE_GROUPS => DrivingTable::OfRole,
            _ => DrivingTable::OfUser,
        },
    })
}

/// The number of groups that have the role, from its counter column.
async fn group_count(view: &View<'_>, role: RoleId) -> Result<i64> {
    let count: Option<i64> = role::Entity::find_by_id(role)
        .select_only()
        .column(role::Column::GroupCount)
        .into_tuple()
        .one(view.db())
        .await?;
    Ok(count.unwrap_or(0))
}

/// Selects the requested groups; also returns whether the search condition is selective
/// ([`SearchFilter::is_selective`]).
async fn matching(
    view: &View<'_>,
    list: &ListGroups,
    driving_table: DrivingTable,
) -> Result<(Select<group::Entity>, bool)> {
    use group::Column::{Id, SearchText};
    use group_role::{Column as R, Relation as OfRole};
    use group_user::{Column as U, Relation as OfUser};
    let mut is_selective = false;
    let mut select = group::Entity::find();
    if let Some(query) = &list.query {
        let found = match driving_table {
            // A user is usually in few groups: they are searched row by row.
            DrivingTable::OfUser => SearchFilter {
                condition: contains(view, SearchText, query),
                is_selective: false,
            },
            DrivingTable::OfRole => {
                search_filter(view, &GROUPS, SearchText, R::GroupId, query).await?
            }
            DrivingTable::All => search_filter(view, &GROUPS, SearchText, Id, query).await?,
        };
        is_selective = found.is_selective;
        select = select.filter(found.condition);
    }
    let has_role = list.role_id.map(|role| R::RoleId.eq(role));
    let has_user = list.user_id.map(|user| U::UserId.eq(user));
    let of = |column: Expr| column.equals(Id.as_column_ref());
    let select = match driving_table {
        DrivingTable::All => select,
        DrivingTable::OfRole => {
            let users = group_user::Entity::find().select_only().column(U::GroupId);
            let users = users.filter(of(Expr::col(U::GroupId.as_column_ref())));
            let users = has_user.map(|wanted| Expr::exists(users.filter(wanted).into_query()));
            select
                .join_rev(JoinType::InnerJoin, OfRole::Group.def())
                .filter(Condition::all().add_option(has_role).add_option(users))
        }
        DrivingTable::OfUser => {
            let roles = group_role::Entity::find().select_only().column(R::GroupId);
            let roles = roles.filter(of(Expr::col(R::GroupId.as_column_ref())));
            let roles = has_role.map(|wanted| Expr::exists(roles.filter(wanted).into_query()));
            select
                .join_rev(JoinType::InnerJoin, OfUser::Group.def())
                .filter(Condition::all().add_option(has_user).add_option(roles))
        }
    };
    Ok((select, is_selective))
}

/// The number of matching groups. The totals of the directory and of a role are maintained counters; a user's groups
/// are counted in an index; searches and combined filters are counted by running the query.
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

/// All roles of these groups, sorted by name, in one statement.
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
