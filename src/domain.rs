//! The domain model, without I/O: ids, texts, pages, rules, changes and commands.
//!
//! Values of these types are valid: their constructors check them.

mod change;
mod command;
mod id;
mod order;
mod page;
mod permission;
mod refs;
mod rule;
mod status;
mod text;
mod token;
mod version;
mod violations;

pub use change::{
    Actor, Change, ChangeFilter, ChangeKind, ChangeLog, DeletedResource, DeletedResourceDetails,
    KindNumber, RecordedChange, Revision, Value,
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
    AccessRequest, DecidingRule, Decision, Effect, EffectiveRule, Literal, MAX_ACTION, MAX_BUNDLE,
    Pattern, PreparedRequest, Rule, RuleIndex, decide,
};
pub use status::UserStatus;
pub use text::{Description, Name, PersonName, SearchQuery, SearchText, SortKey, UniqueKey};
pub use token::{Caller, Token, TokenDigest};
pub use version::{Etag, Timestamp, Version};
pub use violations::{FieldViolation, Violations};
