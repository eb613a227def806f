//! The commands that callers send, with valid values only. `grpc` converts requests into them, `store` executes them.

use super::{
    AccessRequest, ChangeFilter, Description, Etag, FieldViolation, GroupId, HistoryId, Name,
    PageRequest, PersonName, Revision, RoleId, Rule, SearchQuery, UserId, UserStatus,
};

/// Get one resource.
#[derive(Clone, Copy, Debug)]
pub struct Get<I> {
    /// The resource's id.
    pub id: I,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// Create a group with its roles.
#[derive(Clone, Debug)]
pub struct CreateGroup {
    /// The title.
    pub title: Name,
    /// The roles: at least one, each once.
    pub role_ids: Vec<RoleId>,
}

/// Rename a group and change its roles.
#[derive(Clone, Debug)]
pub struct UpdateGroup {
    /// The group.
    pub id: GroupId,
    /// The new title, if it is to change.
    pub title: Option<Name>,
    /// Roles to add, each once.
    pub add: Vec<RoleId>,
    /// Roles to remove, each once, none of them in `add`.
    pub remove: Vec<RoleId>,
    /// The etag that the group must have.
    pub etag: Option<Etag>,
}

/// Delete a group.
#[derive(Clone, Debug)]
pub struct DeleteGroup {
    /// The group.
    pub id: GroupId,
    /// The etag that the group must have.
    pub etag: Option<Etag>,
    /// Whether a missing group is a success.
    pub allow_missing: bool,
}

/// List groups.
#[derive(Clone, Debug)]
pub struct ListGroups {
    /// The page.
    pub page: PageRequest,
    /// Words that the title contains.
    pub query: Option<SearchQuery>,
    /// The role that the groups have.
    pub role_id: Option<RoleId>,
    /// The user who is in the groups.
    pub user_id: Option<UserId>,
    /// Whether to count all matches.
    pub with_total_size: bool,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// List the roles of a group.
#[derive(Clone, Debug)]
pub struct ListRolesInGroup {
    /// The group.
    pub group_id: GroupId,
    /// The page.
    pub page: PageRequest,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// List the users in a group.
#[derive(Clone, Debug)]
pub struct ListUsersInGroup {
    /// The group.
    pub group_id: GroupId,
    /// The page.
    pub page: PageRequest,
    /// Words that the username or the names contain.
    pub query: Option<SearchQuery>,
    /// Whether to count all matches.
    pub with_total_size: bool,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// Assign users to a group.
#[derive(Clone, Debug)]
pub struct AssignUsers {
    /// The group.
    pub group_id: GroupId,
    /// The users: at least one, each once.
    pub user_ids: Vec<UserId>,
}

/// Remove users from a group.
#[derive(Clone, Debug)]
pub struct UnassignUsers {
    /// The group.
    pub group_id: GroupId,
    /// The users: at least one, each once.
    pub user_ids: Vec<UserId>,
    /// Whether users who aren't in the group are skipped.
    pub allow_missing: bool,
}

/// Create a role.
#[derive(Clone, Debug)]
pub struct CreateRole {
    /// The name.
    pub name: Name,
    /// What the role is for.
    pub description: Description,
    /// The rules, each once.
    pub rules: Vec<Rule>,
}

/// Change a role.
#[derive(Clone, Debug)]
pub struct UpdateRole {
    /// The role.
    pub id: RoleId,
    /// The new name, if it is to change.
    pub name: Option<Name>,
    /// The new description, if it is to change.
    pub description: Option<Description>,
    /// Rules to add, each once.
    pub add: Vec<Rule>,
    /// Rules to remove, each once, none of them in `add`.
    pub remove: Vec<Rule>,
    /// The etag that the role must have.
    pub etag: Option<Etag>,
}

/// Delete a role.
#[derive(Clone, Debug)]
pub struct DeleteRole {
    /// The role.
    pub id: RoleId,
    /// The etag that the role must have.
    pub etag: Option<Etag>,
    /// Whether a missing role is a success.
    pub allow_missing: bool,
}

/// List roles.
#[derive(Clone, Debug)]
pub struct ListRoles {
    /// The page.
    pub page: PageRequest,
    /// Words that the name contains.
    pub query: Option<SearchQuery>,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// Create a user.
#[derive(Clone, Debug)]
pub struct CreateUser {
    /// The username.
    pub username: Name,
    /// The first name.
    pub first_name: PersonName,
    /// The last name.
    pub last_name: PersonName,
}

/// Change a user.
#[derive(Clone, Debug)]
pub struct UpdateUser {
    /// The user.
    pub id: UserId,
    /// The new username, if it is to change.
    pub username: Option<Name>,
    /// The new first name, if it is to change.
    pub first_name: Option<PersonName>,
    /// The new last name, if it is to change.
    pub last_name: Option<PersonName>,
    /// The new status, if it is to change.
    pub status: Option<UserStatus>,
    /// The etag that the user must have.
    pub etag: Option<Etag>,
}

/// Delete a user.
#[derive(Clone, Debug)]
pub struct DeleteUser {
    /// The user.
    pub id: UserId,
    /// The etag that the user must have.
    pub etag: Option<Etag>,
    /// Whether a missing user is a success.
    pub allow_missing: bool,
}

/// List users.
#[derive(Clone, Debug)]
pub struct ListUsers {
    /// The page.
    pub page: PageRequest,
    /// Words that the username or the names contain.
    pub query: Option<SearchQuery>,
    /// The status of the users.
    pub status: Option<UserStatus>,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// List the roles of a user.
#[derive(Clone, Debug)]
pub struct ListRolesOfUser {
    /// The user.
    pub user_id: UserId,
    /// The page.
    pub page: PageRequest,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// Decide access requests, all on one state.
#[derive(Clone, Debug)]
pub struct CheckAccess {
    /// Users and their access requests.
    pub questions: Vec<(UserId, AccessRequest)>,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// Decide a batch of access requests, each independently.
#[derive(Clone, Debug)]
pub struct BatchCheckAccess {
    /// The valid access requests, in order.
    pub check: CheckAccess,
    /// The malformed access requests: their index in the batch, and all violations.
    pub malformed: Vec<(usize, Vec<FieldViolation>)>,
}

/// List the users who have access.
#[derive(Clone, Debug)]
pub struct ListUsersWithAccess {
    /// The access request that is allowed.
    pub question: AccessRequest,
    /// The page.
    pub page: PageRequest,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// List changes.
#[derive(Clone, Debug)]
pub struct ListChanges {
    /// The page.
    pub page: PageRequest,
    /// The filter of changes.
    pub filter: ChangeFilter,
    /// The first requested revision, if any.
    pub from: Option<Revision>,
    /// The expected history of the revisions, if it is to be checked.
    pub history: Option<HistoryId>,
    /// The minimum revision of the state that is read.
    pub min_revision: Revision,
}

/// Watch changes.
#[derive(Clone, Debug)]
pub struct WatchChanges {
    /// The first requested revision; `None` for changes from now on.
    pub from: Option<Revision>,
    /// The expected history of `from`, if it is to be checked.
    pub history: Option<HistoryId>,
    /// The filter of changes.
    pub filter: ChangeFilter,
}
