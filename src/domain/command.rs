//! What callers ask for, each with valid values only. `grpc` makes them from requests, `store` carries
//! them out.

use super::{
    ChangeFilter, Etag, FieldViolation, GroupId, HistoryId, Name, Note, PageRequest, Question,
    Revision, RoleId, Rule, SearchQuery, UserId, UserStatus, Words,
};

/// Get one thing.
#[derive(Clone, Copy, Debug)]
pub struct Get<I> {
    /// The thing.
    pub id: I,
    /// The state must be at least as fresh.
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
    /// Whether a group that isn't there is a success.
    pub allow_missing: bool,
}

/// List groups.
#[derive(Clone, Debug)]
pub struct ListGroups {
    /// The page.
    pub page: PageRequest,
    /// What the title contains.
    pub query: Option<SearchQuery>,
    /// The role that the groups have.
    pub role_id: Option<RoleId>,
    /// The user who is in the groups.
    pub user_id: Option<UserId>,
    /// Whether to count all that match.
    pub with_total_size: bool,
    /// The state must be at least as fresh.
    pub min_revision: Revision,
}

/// List the roles of a group.
#[derive(Clone, Debug)]
pub struct ListRolesInGroup {
    /// The group.
    pub group_id: GroupId,
    /// The page.
    pub page: PageRequest,
    /// The state must be at least as fresh.
    pub min_revision: Revision,
}

/// List the users in a group.
#[derive(Clone, Debug)]
pub struct ListUsersInGroup {
    /// The group.
    pub group_id: GroupId,
    /// The page.
    pub page: PageRequest,
    /// What the username or the names contain.
    pub query: Option<SearchQuery>,
    /// Whether to count all that match.
    pub with_total_size: bool,
    /// The state must be at least as fresh.
    pub min_revision: Revision,
}

/// Put users into a group.
#[derive(Clone, Debug)]
pub struct AssignUsers {
    /// The group.
    pub group_id: GroupId,
    /// The users: at least one, each once.
    pub user_ids: Vec<UserId>,
}

/// Take users out of a group.
#[derive(Clone, Debug)]
pub struct UnassignUsers {
    /// The group.
    pub group_id: GroupId,
    /// The users: at least one, each once.
    pub user_ids: Vec<UserId>,
    /// Whether a user who isn't in the group is passed over.
    pub allow_missing: bool,
}

/// Create a role.
#[derive(Clone, Debug)]
pub struct CreateRole {
    /// The name.
    pub name: Name,
    /// What the role is for.
    pub description: Note,
    /// What it allows and denies, each rule once.
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
    pub description: Option<Note>,
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
    /// Whether a role that isn't there is a success.
    pub allow_missing: bool,
}

/// List roles.
#[derive(Clone, Debug)]
pub struct ListRoles {
    /// The page.
    pub page: PageRequest,
    /// What the name contains.
    pub query: Option<SearchQuery>,
    /// The state must be at least as fresh.
    pub min_revision: Revision,
}

/// Create a user.
#[derive(Clone, Debug)]
pub struct CreateUser {
    /// The username.
    pub username: Name,
    /// The first name.
    pub first_name: Words,
    /// The last name.
    pub last_name: Words,
}

/// Change a user.
#[derive(Clone, Debug)]
pub struct UpdateUser {
    /// The user.
    pub id: UserId,
    /// The new username, if it is to change.
    pub username: Option<Name>,
    /// The new first name, if it is to change.
    pub first_name: Option<Words>,
    /// The new last name, if it is to change.
    pub last_name: Option<Words>,
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
    /// Whether a user who isn't there is a success.
    pub allow_missing: bool,
}

/// List users.
#[derive(Clone, Debug)]
pub struct ListUsers {
    /// The page.
    pub page: PageRequest,
    /// What the username or the names contain.
    pub query: Option<SearchQuery>,
    /// The status of the users.
    pub status: Option<UserStatus>,
    /// The state must be at least as fresh.
    pub min_revision: Revision,
}

/// List the roles of a user.
#[derive(Clone, Debug)]
pub struct ListRolesOfUser {
    /// The user.
    pub user_id: UserId,
    /// The page.
    pub page: PageRequest,
    /// The state must be at least as fresh.
    pub min_revision: Revision,
}

/// Decide questions, on one state.
#[derive(Clone, Debug)]
pub struct CheckAccess {
    /// Who asks for what.
    pub questions: Vec<(UserId, Question)>,
    /// The state must be at least as fresh.
    pub min_revision: Revision,
}

/// Decide the questions of a batch, each for itself.
#[derive(Clone, Debug)]
pub struct BatchCheckAccess {
    /// Those that can be decided, in their order.
    pub check: CheckAccess,
    /// Those that are malformed: the place in the batch, and every violation.
    pub malformed: Vec<(usize, Vec<FieldViolation>)>,
}

/// List the users who may do something.
#[derive(Clone, Debug)]
pub struct ListUsersWithAccess {
    /// What they may do.
    pub question: Question,
    /// The page.
    pub page: PageRequest,
    /// The state must be at least as fresh.
    pub min_revision: Revision,
}

/// List changes.
#[derive(Clone, Debug)]
pub struct ListChanges {
    /// The page.
    pub page: PageRequest,
    /// Which changes.
    pub filter: ChangeFilter,
    /// The first revision that is wanted, if it matters.
    pub from: Option<Revision>,
    /// The history that the revisions are of, if it is checked.
    pub history: Option<HistoryId>,
    /// The state must be at least as fresh.
    pub min_revision: Revision,
}

/// Follow changes.
#[derive(Clone, Debug)]
pub struct WatchChanges {
    /// The first revision that is wanted; none for what comes from now on.
    pub from: Option<Revision>,
    /// The history that `from` is of, if it is checked.
    pub history: Option<HistoryId>,
    /// Which changes.
    pub filter: ChangeFilter,
}
