//! Which roles users hold, through their groups.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect, RelationTrait,
    sea_query::{Expr, ExprTrait},
};

use crate::{
    domain::{GroupId, GroupRef, Name, Revision, RoleId, RoleRef, UserId, UserStatus},
    entity::{directory, group, group_role, group_user, role, user},
    error::Result,
    store::{View, page::revision},
};

/// So many users' groups, and groups' roles, are read in one go: a user may be in any number of groups, and a group has a
/// thousand roles at most.
const USERS: usize = 250;
const GROUPS: usize = 50;

/// A user with one of the user's groups, if there are any, beside the revision.
#[derive(FromQueryResult)]
struct Membership {
    revision: Revision,
    user_id: UserId,
    status: UserStatus,
    group_id: Option<GroupId>,
}

/// A group with one of its roles, if there are any of those that are asked for, beside the revision.
#[derive(FromQueryResult)]
struct GroupRole {
    revision: Revision,
    group_id: Option<GroupId>,
    title: Option<Name>,
    role_id: Option<RoleId>,
    role_name: Option<Name>,
}

/// Which roles some users hold.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    pub(super) users: HashMap<UserId, (UserStatus, Vec<GroupId>)>,
    pub(super) groups: HashMap<GroupId, (GroupRef, Vec<RoleId>)>,
    pub(super) roles: HashMap<RoleId, RoleRef>,
}

impl Holdings {
    /// The groups of these users and the roles of these groups, each read once: all of them beside each other are far more.
    pub(super) async fn read(view: &View<'_>, users: &BTreeSet<UserId>) -> Result<Self> {
        let mut holdings = Self::default();
        let users: Vec<_> = users.iter().copied().collect();
        for users in users.chunks(USERS) {
            for row in memberships(view, users).await? {
                view.saw(row.revision);
                let user = holdings.users.entry(row.user_id);
                let (_, groups) = user.or_insert_with(|| (row.status, Vec::new()));
                groups.extend(row.group_id);
            }
        }
        if holdings.users.is_empty() {
            // Where none of the users is there, no row tells the revision.
            view.tear();
        }
        let active = holdings.users.values();
        let active = active.filter(|(status, _)| *status == UserStatus::Active);
        let groups: BTreeSet<_> = active.flat_map(|(_, groups)| groups).copied().collect();
        let groups: Vec<_> = groups.into_iter().collect();
        for groups in groups.chunks(GROUPS) {
            for row in roles_of(view, groups).await? {
                view.saw(row.revision);
                let role = row.role_id.zip(row.role_name);
                let group = row.group_id.zip(row.title);
                if let Some(((role, name), (group, title))) = role.zip(group) {
                    let named = || (GroupRef { id: group, title }, Vec::new());
                    let (_, roles) = holdings.groups.entry(group).or_insert_with(named);
                    roles.push(role);
                    let named = || RoleRef { id: role, name };
                    holdings.roles.entry(role).or_insert_with(named);
                }
            }
        }
        Ok(holdings)
    }
}

async fn memberships(view: &View<'_>, users: &[UserId]) -> Result<Vec<Membership>> {
    let rows = user::Entity::find()
        .select_only()
        .expr_as(revision(), "revision")
        .column_as(user::Column::Id, "user_id")
        .column_as(user::Column::Status, "status")
        .column_as(group_user::Column::GroupId, "group_id")
        .join_rev(JoinType::LeftJoin, group_user::Relation::User.def())
        .filter(user::Column::Id.is_in(users.iter().copied()))
        .into_model()
        .all(view.db())
        .await?;
    Ok(rows)
}

/// Every role of these groups. The directory has a row: joined from there, it tells the revision where there are none.
async fn roles_of(view: &View<'_>, groups: &[GroupId]) -> Result<Vec<GroupRole>> {
    let column = |column: group_role::Column| Expr::col(column.as_column_ref());
    let mut select = directory::Entity::find()
        .select_only()
        .column_as(directory::Column::Revision, "revision")
        .column_as(group::Column::Id, "group_id")
        .column_as(group::Column::Title, "title")
        .column_as(role::Column::Id, "role_id")
        .column_as(role::Column::Name, "role_name");
    let wanted = group_role::Column::GroupId.is_in(groups.iter().copied());
    let of_group = column(group_role::Column::GroupId).equals(group::Column::Id.as_column_ref());
    let of_role = column(group_role::Column::RoleId).equals(role::Column::Id.as_column_ref());
    QuerySelect::query(&mut select)
        .left_join(group_role::Entity, wanted)
        .left_join(group::Entity, of_group)
        .left_join(role::Entity, of_role);
    Ok(select.into_model().all(view.db()).await?)
}
