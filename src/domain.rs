//! What the service is about, without I/O: ids, texts, pages and the commands that callers give.
//!
//! A value of a type in here is valid: its constructor is the only way in.

mod change;
mod command;
mod id;
mod order;
mod page;
mod permission;
mod refs;
mod rule;
mod stamp;
mod status;
mod text;
mod token;
mod violations;

pub use change::{
    Actor, Change, ChangeFilter, ChangeKind, ChangeLog, Deleted, DeletedDetails, KindNumber,
    Recorded, Revision, Value,
};
pub use command::{
    AssignUsers, BatchCheckAccess, CheckAccess, CreateGroup, CreateRole, CreateUser, DeleteGroup,
    DeleteRole, DeleteUser, Get, ListChanges, ListGroups, ListRoles, ListRolesInGroup,
    ListRolesOfUser, ListUsers, ListUsersInGroup, ListUsersWithAccess, UnassignUsers, UpdateGroup,
    UpdateRole, UpdateUser, WatchChanges,
};
pub use id::{GroupId, HistoryId, Id, RequestId, RoleId, TokenId, UserId};
pub use order::{Order, SortBy};
pub use page::{Cursor, CursorKey, PageRequest, PageToken, Scope};
pub use permission::{Permission, Permissions};
pub use refs::{GroupRef, RoleRef};
pub use rule::{
    Asked, Deciding, Effect, Grant, Literal, MAX_ACTION, MAX_BUNDLE, Pattern, Question, Rule,
    Rules, Verdict, decide,
};
pub use stamp::{Etag, Timestamp, Version};
pub use status::UserStatus;
pub use text::{Folded, Name, Note, SearchQuery, SortKey, UniqueKey, Words};
pub use token::{Caller, Token, TokenDigest};
pub use violations::{FieldViolation, Violations};
