//! `groups.v1.UserService`. Its conversions are in `user/convert.rs`.

mod convert;

use tonic::{Request, Response, Status};

use super::{page::truncate_page, request_context::parse_write};
use crate::{
    domain::{CreateUser, DeleteUser, Get, ListRolesOfUser, ListUsers, Revision, UpdateUser},
    pb::{self, user_service_server::UserService},
    store::{self, AtRevision, Db},
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
        let (command, context) = parse_write::<_, CreateUser>(request)?;
        let reply = |output, revision: Revision| pb::CreateUserResponse {
            user: Some(pb::User::from(output)),
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::GetUserResponse>, Status> {
        let get = Get::try_from(request.into_inner())?;
        let AtRevision { value, revision } = store::read(&self.0, &get).await?;
        Ok(Response::new(pb::GetUserResponse {
            user: Some(value.into()),
            revision: revision.number(),
        }))
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let list = ListUsers::try_from(request.into_inner())?;
        let page = store::read(&self.0, &list).await?;
        let revision = page.revision.number();
        let (users, next_page_token) = truncate_page(page, &list.page.scope);
        Ok(Response::new(pb::ListUsersResponse {
            users,
            next_page_token,
            revision,
        }))
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::UpdateUserResponse>, Status> {
        let (command, context) = parse_write::<_, UpdateUser>(request)?;
        let reply = |output, revision: Revision| pb::UpdateUserResponse {
            user: Some(pb::User::from(output)),
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn list_roles_of_user(
        &self,
        request: Request<pb::ListRolesOfUserRequest>,
    ) -> Result<Response<pb::ListRolesOfUserResponse>, Status> {
        let list = ListRolesOfUser::try_from(request.into_inner())?;
        let page = store::read(&self.0, &list).await?;
        let revision = page.revision.number();
        let (roles, next_page_token) = truncate_page(page, &list.page.scope);
        Ok(Response::new(pb::ListRolesOfUserResponse {
            roles,
            next_page_token,
            revision,
        }))
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<pb::DeleteUserResponse>, Status> {
        let (command, context) = parse_write::<_, DeleteUser>(request)?;
        let reply = |_, revision: Revision| pb::DeleteUserResponse {
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }
}
