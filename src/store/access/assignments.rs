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
    store::{View, page::revision_column},
};

/// For how many users one statement reads the groups, and for how many groups the roles: a user may be in any number of
/// groups, and a group has a thousand roles at most.
const USERS_PER_QUERY: usize = 250;
const GROUPS_PER_QUERY: usize = 50;
/// How many names one statement reads.
const NAMES_PER_QUERY: usize = 5000;

/// A user and one of the user's groups, if there are any, with the revision.
#[derive(FromQueryResult)]
struct Membership {
    revision: Revision,
    user_id: UserId,
    status: UserStatus,
    group_id: Option<GroupId>,
}

/// A group and one of its roles, or neither if none of the requested groups has a role, with the revision.
#[derive(FromQueryResult)]
struct GroupRole {
    revision: Revision,
    group_id: Option<GroupId>,
    role_id: Option<RoleId>,
}

/// An id and its name, or neither if none of the requested ids exists, with the revision.
#[derive(FromQueryResult)]
struct NamedRow<I: TryGetable> {
    revision: Revision,
    id: Option<I>,
    name: Option<Name>,
}

/// The groups of some users, and the roles of these groups.
#[derive(Debug, Default)]
pub(super) struct RoleAssignments {
    pub(super) users: HashMap<UserId, (UserStatus, Vec<GroupId>)>,
    pub(super) groups: HashMap<GroupId, Vec<RoleId>>,
}

/// The names of groups and roles.
#[derive(Debug, Default)]
pub(super) struct DisplayNames {
    pub(super) groups: HashMap<GroupId, GroupRef>,
    pub(super) roles: HashMap<RoleId, RoleRef>,
}

impl RoleAssignments {
    /// Reads the groups of these users and the roles of these groups, each only once and without their names: a join of
    /// them all would return far more rows.
    pub(super) async fn read(view: &View<'_>, users: &BTreeSet<UserId>) -> Result<Self> {
        let mut assignments = Self::default();
        let users: Vec<_> = users.iter().copied().collect();
        for users in users.chunks(USERS_PER_QUERY) {
            for row in memberships(view, users).await? {
                view.observe_revision(row.revision);
                let user = assignments.users.entry(row.user_id);
                let (_, groups) = user.or_insert_with(|| (row.status, Vec::new()));
                groups.extend(row.group_id);
            }
        }
        if assignments.users.is_empty() {
            // If none of the users exists, no row reports the revision.
            view.mark_inconsistent();
        }
        let active = assignments.users.values();
        let active = active.filter(|(status, _)| *status == UserStatus::Active);
        let groups: BTreeSet<_> = active.flat_map(|(_, groups)| groups).copied().collect();
        let groups: Vec<_> = groups.into_iter().collect();
        for groups in groups.chunks(GROUPS_PER_QUERY) {
            for row in roles_of(view, groups).await? {
                view.observe_revision(row.revision);
                if let Some((group, role)) = row.group_id.zip(row.role_id) {
                    assignments.groups.entry(group).or_default().push(role);
                }
            }
        }
        Ok(assignments)
    }

    /// Every role that one of the active users holds.
    pub(super) fn roles(&self) -> BTreeSet<RoleId> {
        self.groups.values().flatten().copied().collect()
    }

    /// Reads the names of these roles, and of the groups that have them.
    pub(super) async fn names(
        &self,
        view: &View<'_>,
        roles: &BTreeSet<RoleId>,
    ) -> Result<DisplayNames> {
        let groups = self.groups.iter();
        let groups = groups.filter(|(_, held)| held.iter().any(|role| roles.contains(role)));
        let groups = groups.map(|(id, _)| *id).collect();
        let roles = named(view, role::Column::Id, role::Column::Name, roles).await?;
        let groups = named(view, group::Column::Id, group::Column::Title, &groups).await?;
        let role = |(id, name)| (id, RoleRef { id, name });
        let group = |(id, title)| (id, GroupRef { id, title });
        Ok(DisplayNames {
            groups: groups.into_iter().map(group).collect(),
            roles: roles.into_iter().map(role).collect(),
        })
    }
}

async fn memberships(view: &View<'_>, users: &[UserId]) -> Result<Vec<Membership>> {
    let rows = user::Entity::find()
        .select_only()
        .expr_as(revision_column(), "revision")
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

/// Every role of these groups. It is joined to the directory's row, which reports the revision even if there are no
/// roles.
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

/// Reads the names of `ids`, in one statement for each [`NAMES_PER_QUERY`] of them.
async fn named<I, C>(view: &View<'_>, id: C, name: C, ids: &BTreeSet<I>) -> Result<Vec<(I, Name)>>
where
    I: TryGetable + Copy + Into<Value> + Send,
    C: ColumnTrait,
{
    let ids: Vec<_> = ids.iter().copied().collect();
    let mut names = Vec::new();
    for ids in ids.chunks(NAMES_PER_QUERY) {
        let mut select = directory::Entity::find()
            .select_only()
            .column_as(directory::Column::Revision, "revision")
            .column_as(id, "id")
            .column_as(name, "name");
        let wanted = id.is_in(ids.iter().copied());
        QuerySelect::query(&mut select).left_join(C::EntityName::default(), wanted);
        for row in select.into_model::<NamedRow<I>>().all(view.db()).await? {
            view.observe_revision(row.revision);
            names.extend(row.id.zip(row.name));
        }
    }
    Ok(names)
}
