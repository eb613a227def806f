//! Which roles users hold, through their groups.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect, RelationTrait,
    TryGetable, Value,
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
/// And so many names.
const NAMES: usize = 5000;

/// A user with one of the user's groups, if there are any, beside the revision.
#[derive(FromQueryResult)]
struct Membership {
    revision: Revision,
    user_id: UserId,
    status: UserStatus,
    group_id: Option<GroupId>,
}

/// A group and one of its roles, if there are any of those that are asked for, beside the revision.
#[derive(FromQueryResult)]
struct GroupRole {
    revision: Revision,
    group_id: Option<GroupId>,
    role_id: Option<RoleId>,
}

/// What is named by an id, beside the revision.
#[derive(FromQueryResult)]
struct Named<I: TryGetable> {
    revision: Revision,
    id: Option<I>,
    name: Option<Name>,
}

/// Which roles some users hold.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    pub(super) users: HashMap<UserId, (UserStatus, Vec<GroupId>)>,
    pub(super) groups: HashMap<GroupId, Vec<RoleId>>,
}

/// What groups and roles are called.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) groups: HashMap<GroupId, GroupRef>,
    pub(super) roles: HashMap<RoleId, RoleRef>,
}

impl Holdings {
    /// The groups of these users and the roles of these groups, each read once and without their names: all of them beside
    /// each other are far more.
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
                if let Some((group, role)) = row.group_id.zip(row.role_id) {
                    holdings.groups.entry(group).or_default().push(role);
                }
            }
        }
        Ok(holdings)
    }

    /// Every role that anybody holds.
    pub(super) fn roles(&self) -> BTreeSet<RoleId> {
        self.groups.values().flatten().copied().collect()
    }

    /// What these roles, and the groups that have them, are called.
    pub(super) async fn names(&self, view: &View<'_>, roles: &BTreeSet<RoleId>) -> Result<Names> {
        let groups = self.groups.iter();
        let groups = groups.filter(|(_, held)| held.iter().any(|role| roles.contains(role)));
        let groups = groups.map(|(id, _)| *id).collect();
        let roles = named(view, role::Column::Id, role::Column::Name, roles).await?;
        let groups = named(view, group::Column::Id, group::Column::Title, &groups).await?;
        let role = |(id, name)| (id, RoleRef { id, name });
        let group = |(id, title)| (id, GroupRef { id, title });
        Ok(Names {
            groups: groups.into_iter().map(group).collect(),
            roles: roles.into_iter().map(role).collect(),
        })
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
    let mut select = directory::Entity::find()
        .select_only()
        .column_as(directory::Column::Revision, "revision")
        .column_as(group_role::Column::GroupId, "group_id")
        .column_as(group_role::Column::RoleId, "role_id");
    let wanted = group_role::Column::GroupId.is_in(groups.iter().copied());
    QuerySelect::query(&mut select).left_join(group_role::Entity, wanted);
    Ok(select.into_model().all(view.db()).await?)
}

/// What these are called, in one statement for a few.
async fn named<I, C>(view: &View<'_>, id: C, name: C, ids: &BTreeSet<I>) -> Result<Vec<(I, Name)>>
where
    I: TryGetable + Copy + Into<Value> + Send,
    C: ColumnTrait,
{
    let ids: Vec<_> = ids.iter().copied().collect();
    let mut names = Vec::new();
    for ids in ids.chunks(NAMES) {
        let mut select = directory::Entity::find()
            .select_only()
            .column_as(directory::Column::Revision, "revision")
            .column_as(id, "id")
            .column_as(name, "name");
        let wanted = id.is_in(ids.iter().copied());
        QuerySelect::query(&mut select).left_join(C::EntityName::default(), wanted);
        for row in select.into_model::<Named<I>>().all(view.db()).await? {
            view.saw(row.revision);
            names.extend(row.id.zip(row.name));
        }
    }
    Ok(names)
}
