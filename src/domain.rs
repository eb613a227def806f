//! What the service is about, without I/O: ids, texts, pages and the commands that callers give.
//!
//! A value of a type in here is valid: its constructor is the only way in.

mod command;
mod id;
mod order;
mod page;
mod stamp;
mod status;
mod text;
mod violations;

pub use command::{
    AssignUsers, CreateGroup, CreateRole, CreateUser, DeleteGroup, DeleteRole, DeleteUser,
    ListGroups, ListRoles, ListRolesInGroup, ListUsers, ListUsersInGroup, UnassignUsers,
    UpdateGroup, UpdateRole, UpdateUser,
};
pub use id::{GroupId, Id, RoleId, UserId};
pub use order::{Order, SortBy};
pub use page::{Cursor, CursorKey, PageRequest, PageToken, Scope};
pub use stamp::{Etag, Timestamp, Version};
pub use status::UserStatus;
pub use text::{Folded, Name, Note, SortKey, UniqueKey, Words};
pub use violations::{FieldViolation, Violations};
