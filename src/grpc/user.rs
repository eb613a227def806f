//! `groups.v1.UserService`.

use tonic::{Request, Response, Status};

use super::{page::fit, timestamp};
use crate::{
    domain::{
        CreateUser, DeleteUser, Etag, Folded, ListUsers, Name, Order, PageRequest, Scope,
        UpdateUser, UserId, UserStatus, Violations, Words,
    },
    entity::user,
    error::Error,
    pb::{self, user_service_server::UserService},
    store::{self, Db},
};

/// The implementation of `groups.v1.UserService`.
#[derive(Debug)]
pub struct Users(pub Db);

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(
        &self,
        request: Request<pb::CreateUserRequest>,
    ) -> Result<Response<pb::CreateUserResponse>, Status> {
        let command = CreateUser::try_from(request.into_inner())?;
        let user = Some(store::write(&self.0, command).await?.into());
        Ok(Response::new(pb::CreateUserResponse { user }))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::GetUserResponse>, Status> {
        let id = UserId::try_from(request.into_inner())?;
        let user = Some(store::user::get(&self.0, id).await?.into());
        Ok(Response::new(pb::GetUserResponse { user }))
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let list = ListUsers::try_from(request.into_inner())?;
        let page = store::user::list(&self.0, &list).await?;
        let (users, next_page_token) = fit(page, &list.page.scope);
        Ok(Response::new(pb::ListUsersResponse {
            users,
            next_page_token,
        }))
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::UpdateUserResponse>, Status> {
        let command = UpdateUser::try_from(request.into_inner())?;
        let user = Some(store::write(&self.0, command).await?.into());
        Ok(Response::new(pb::UpdateUserResponse { user }))
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<pb::DeleteUserResponse>, Status> {
        let command = DeleteUser::try_from(request.into_inner())?;
        store::write(&self.0, command).await?;
        Ok(Response::new(pb::DeleteUserResponse {}))
    }
}

impl TryFrom<pb::CreateUserRequest> for CreateUser {
    type Error = Error;

    fn try_from(request: pb::CreateUserRequest) -> Result<Self, Error> {
        let pb::CreateUserRequest {
            username,
            first_name,
            last_name,
        } = request;
        let mut violations = Violations::default();
        let username = violations.name("username", &username);
        let first_name = violations.check("first_name", Words::parse(&first_name));
        let last_name = violations.check("last_name", Words::parse(&last_name));
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

impl TryFrom<pb::GetUserRequest> for UserId {
    type Error = Error;

    fn try_from(request: pb::GetUserRequest) -> Result<Self, Error> {
        let pb::GetUserRequest { user_id } = request;
        let mut violations = Violations::default();
        violations
            .id("user_id", &user_id)
            .ok_or_else(|| violations.into())
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
        } = request;
        let mut violations = Violations::default();
        let query = violations.check("query", Folded::query(&query));
        let number = status;
        let status = match pb::UserStatus::try_from(number) {
            Ok(pb::UserStatus::Unspecified) => Some(None),
            _ => read_status(&mut violations, number).map(Some),
        };
        let order = violations.check("order_by", Order::parse(&order_by, "username"));
        let scope = query
            .as_ref()
            .map(|query| Scope::new("users").text(query.as_ref()).number(number));
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, scope);
        match (page, query, status) {
            (Some(page), Some(query), Some(status)) => Ok(Self {
                page,
                query,
                status,
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
        } = request;
        let mut violations = Violations::default();
        let id = violations.id("user_id", &user_id);
        let username = violations.optional("username", username.as_deref(), Name::parse);
        let first_name = violations.optional("first_name", first_name.as_deref(), Words::parse);
        let last_name = violations.optional("last_name", last_name.as_deref(), Words::parse);
        let status = match status {
            Some(number) => read_status(&mut violations, number).map(Some),
            None => Some(None),
        };
        let etag = Etag::condition(etag);
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

impl TryFrom<pb::DeleteUserRequest> for DeleteUser {
    type Error = Error;

    fn try_from(request: pb::DeleteUserRequest) -> Result<Self, Error> {
        let pb::DeleteUserRequest {
            user_id,
            etag,
            allow_missing,
        } = request;
        let mut violations = Violations::default();
        let etag = Etag::condition(etag);
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

fn read_status(violations: &mut Violations, number: i32) -> Option<UserStatus> {
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

impl From<user::Model> for pb::User {
    fn from(user: user::Model) -> Self {
        let status = match user.status {
            UserStatus::Active => pb::UserStatus::Active,
            UserStatus::Blocked => pb::UserStatus::Blocked,
        };
        Self {
            id: user.id.to_string(),
            username: user.username.into_string(),
            first_name: user.first_name.into_string(),
            last_name: user.last_name.into_string(),
            status: status.into(),
            create_time: Some(timestamp(user.created_at)),
            update_time: Some(timestamp(user.updated_at)),
            etag: user.version.etag(),
        }
    }
}
