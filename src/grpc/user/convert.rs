//! Conversions of `groups.v1.UserService` requests to commands, and of users to responses.

use crate::{
    domain::{
        CreateUser, DeleteUser, Etag, Get, GroupRef, ListRolesOfUser, ListUsers, Name, Order,
        PageRequest, PersonName, Revision, Scope, SearchQuery, UpdateUser, UserId, UserStatus,
        Violations,
    },
    entity::user,
    error::Error,
    grpc::timestamp,
    pb,
    store::role::RoleOfUser,
};

impl TryFrom<pb::CreateUserRequest> for CreateUser {
    type Error = Error;

    fn try_from(request: pb::CreateUserRequest) -> Result<Self, Error> {
        let pb::CreateUserRequest {
            username,
            first_name,
            last_name,
            request_id: _,
        } = request;
        let mut violations = Violations::default();
        let username = violations.name("username", &username);
        let first_name = violations.check("first_name", PersonName::parse(&first_name));
        let last_name = violations.check("last_name", PersonName::parse(&last_name));
        match (username, first_name, last_name) {
            (Some(username), Some(first_name), Some(last_name)) => Ok(Self {
                username,
                first_name,
                last_name,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::GetUserRequest> for Get<UserId> {
    type Error = Error;

    fn try_from(request: pb::GetUserRequest) -> Result<Self, Error> {
        let pb::GetUserRequest {
            user_id,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let id = violations.id("user_id", &user_id);
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        match (id, min_revision) {
            (Some(id), Some(min_revision)) => Ok(Self { id, min_revision }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::ListUsersRequest> for ListUsers {
    type Error = Error;

    fn try_from(request: pb::ListUsersRequest) -> Result<Self, Error> {
        let pb::ListUsersRequest {
            page_size,
            page_token,
            query,
            status,
            order_by,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let query = violations.check("query", SearchQuery::parse(&query));
        let number = status;
        let status = match pb::UserStatus::try_from(number) {
            Ok(pb::UserStatus::Unspecified) => Some(None),
            _ => parse_status(&mut violations, number).map(Some),
        };
        let order = violations.check("order_by", Order::parse(&order_by, "username"));
        let scope = query
            .as_ref()
            .map(|query| Scope::new("users").text(query.as_ref()).number(number));
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, scope);
        match (page, query, status, min_revision) {
            (Some(page), Some(query), Some(status), Some(min_revision)) => Ok(Self {
                page,
                query,
                status,
                min_revision,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::UpdateUserRequest> for UpdateUser {
    type Error = Error;

    fn try_from(request: pb::UpdateUserRequest) -> Result<Self, Error> {
        let pb::UpdateUserRequest {
            user_id,
            username,
            first_name,
            last_name,
            status,
            etag,
            request_id: _,
        } = request;
        let mut violations = Violations::default();
        let id = violations.id("user_id", &user_id);
        let username = violations.optional("username", username.as_deref(), Name::parse);
        let first_name =
            violations.optional("first_name", first_name.as_deref(), PersonName::parse);
        let last_name = violations.optional("last_name", last_name.as_deref(), PersonName::parse);
        let status = match status {
            Some(number) => parse_status(&mut violations, number).map(Some),
            None => Some(None),
        };
        let etag = Etag::parse_optional(etag);
        match (id, username, first_name, last_name, status) {
            (Some(id), Some(username), Some(first_name), Some(last_name), Some(status)) => {
                Ok(Self {
                    id,
                    username,
                    first_name,
                    last_name,
                    status,
                    etag,
                })
            }
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::ListRolesOfUserRequest> for ListRolesOfUser {
    type Error = Error;

    fn try_from(request: pb::ListRolesOfUserRequest) -> Result<Self, Error> {
        let pb::ListRolesOfUserRequest {
            user_id,
            page_size,
            page_token,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let user_id = violations.id::<UserId>("user_id", &user_id);
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        let order = Some(Order::BY_NAME);
        let scope = user_id.map(|id| Scope::new("roles of user").id(Some(id.uuid())));
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, scope);
        match (user_id, page, min_revision) {
            (Some(user_id), Some(page), Some(min_revision)) => Ok(Self {
                user_id,
                page,
                min_revision,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl From<RoleOfUser> for pb::RoleOfUser {
    fn from(RoleOfUser { role, groups }: RoleOfUser) -> Self {
        Self {
            role: Some(role.into()),
            groups: groups.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<GroupRef> for pb::GroupRef {
    fn from(GroupRef { id, title }: GroupRef) -> Self {
        Self {
            id: id.to_string(),
            title: title.into_string(),
        }
    }
}

impl TryFrom<pb::DeleteUserRequest> for DeleteUser {
    type Error = Error;

    fn try_from(request: pb::DeleteUserRequest) -> Result<Self, Error> {
        let pb::DeleteUserRequest {
            user_id,
            etag,
            allow_missing,
        } = request;
        let mut violations = Violations::default();
        let etag = Etag::parse_optional(etag);
        match violations.id("user_id", &user_id) {
            Some(id) => Ok(Self {
                id,
                etag,
                allow_missing,
            }),
            None => Err(violations.into()),
        }
    }
}

fn parse_status(violations: &mut Violations, number: i32) -> Option<UserStatus> {
    match pb::UserStatus::try_from(number) {
        Ok(pb::UserStatus::Active) => Some(UserStatus::Active),
        Ok(pb::UserStatus::Blocked) => Some(UserStatus::Blocked),
        Ok(pb::UserStatus::Unspecified) | Err(_) => {
            violations.add(
                "status",
                "must be USER_STATUS_ACTIVE or USER_STATUS_BLOCKED",
            );
            None
        }
    }
}

impl From<UserStatus> for pb::UserStatus {
    fn from(status: UserStatus) -> Self {
        match status {
            UserStatus::Active => Self::Active,
            UserStatus::Blocked => Self::Blocked,
        }
    }
}

impl From<user::Model> for pb::User {
    fn from(user: user::Model) -> Self {
        Self {
            id: user.id.to_string(),
            username: user.username.into_string(),
            first_name: user.first_name.into_string(),
            last_name: user.last_name.into_string(),
            status: pb::UserStatus::from(user.status).into(),
            create_time: Some(timestamp(user.created_at)),
            update_time: Some(timestamp(user.updated_at)),
            etag: user.version.etag(),
        }
    }
}
