//! `groups.v1.GroupService`. Its conversions are in `group/convert.rs` and `group/member.rs`.

mod convert;
mod member;

use tonic::{Request, Response, Status};

use super::{
    page::{total_size, truncate_page},
    request_context::parse_write,
};
use crate::{
    domain::{
        AssignUsers, CreateGroup, DeleteGroup, Get, ListGroups, ListRolesInGroup, ListUsersInGroup,
        Revision, UnassignUsers, UpdateGroup,
    },
    pb::{self, group_service_server::GroupService},
    store::{self, AtRevision, Db},
};

/// The implementation of `groups.v1.GroupService`.
#[derive(Debug)]
pub struct Groups(pub Db);

#[tonic::async_trait]
impl GroupService for Groups {
    async fn create_group(
        &self,
        request: Request<pb::CreateGroupRequest>,
    ) -> Result<Response<pb::CreateGroupResponse>, Status> {
        let (command, context) = parse_write::<_, CreateGroup>(request)?;
        let reply = |output, revision: Revision| pb::CreateGroupResponse {
            group: Some(pb::Group::from(output)),
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn get_group(
        &self,
        request: Request<pb::GetGroupRequest>,
    ) -> Result<Response<pb::GetGroupResponse>, Status> {
        let get = Get::try_from(request.into_inner())?;
        let AtRevision { value, revision } = store::read(&self.0, &get).await?;
        Ok(Response::new(pb::GetGroupResponse {
            group: Some(value.into()),
            revision: revision.number(),
        }))
    }

    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<pb::ListGroupsResponse>, Status> {
        let list = ListGroups::try_from(request.into_inner())?;
        let page = store::read(&self.0, &list).await?;
        let total_size = total_size(page.total_size);
        let revision = page.revision.number();
        let (groups, next_page_token) = truncate_page(page, &list.page.scope);
        Ok(Response::new(pb::ListGroupsResponse {
            groups,
            next_page_token,
            total_size,
            revision,
        }))
    }

    async fn update_group(
        &self,
        request: Request<pb::UpdateGroupRequest>,
    ) -> Result<Response<pb::UpdateGroupResponse>, Status> {
        let (command, context) = parse_write::<_, UpdateGroup>(request)?;
        let reply = |output, revision: Revision| pb::UpdateGroupResponse {
            group: Some(pb::Group::from(output)),
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn delete_group(
        &self,
        request: Request<pb::DeleteGroupRequest>,
    ) -> Result<Response<pb::DeleteGroupResponse>, Status> {
        let (command, context) = parse_write::<_, DeleteGroup>(request)?;
        let reply = |_, revision: Revision| pb::DeleteGroupResponse {
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn list_roles_in_group(
        &self,
        request: Request<pb::ListRolesInGroupRequest>,
    ) -> Result<Response<pb::ListRolesInGroupResponse>, Status> {
        let list = ListRolesInGroup::try_from(request.into_inner())?;
        let page = store::read(&self.0, &list).await?;
        let revision = page.revision.number();
        let (roles, next_page_token) = truncate_page(page, &list.page.scope);
        Ok(Response::new(pb::ListRolesInGroupResponse {
            roles,
            next_page_token,
            revision,
        }))
    }

    async fn list_users_in_group(
        &self,
        request: Request<pb::ListUsersInGroupRequest>,
    ) -> Result<Response<pb::ListUsersInGroupResponse>, Status> {
        let list = ListUsersInGroup::try_from(request.into_inner())?;
        let page = store::read(&self.0, &list).await?;
        let total_size = total_size(page.total_size);
        let revision = page.revision.number();
        let (users, next_page_token) = truncate_page(page, &list.page.scope);
        Ok(Response::new(pb::ListUsersInGroupResponse {
            users,
            next_page_token,
            total_size,
            revision,
        }))
    }

    async fn assign_user(
        &self,
        request: Request<pb::AssignUserRequest>,
    ) -> Result<Response<pb::AssignUserResponse>, Status> {
        let (command, context) = parse_write::<_, AssignUsers>(request)?;
        let reply = |_, revision: Revision| pb::AssignUserResponse {
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn unassign_user(
        &self,
        request: Request<pb::UnassignUserRequest>,
    ) -> Result<Response<pb::UnassignUserResponse>, Status> {
        let (command, context) = parse_write::<_, UnassignUsers>(request)?;
        let reply = |_, revision: Revision| pb::UnassignUserResponse {
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn batch_assign_users(
        &self,
        request: Request<pb::BatchAssignUsersRequest>,
    ) -> Result<Response<pb::BatchAssignUsersResponse>, Status> {
        let (command, context) = parse_write::<_, AssignUsers>(request)?;
        let reply = |output, revision: Revision| pb::BatchAssignUsersResponse {
            assigned_count: member::count(output),
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn batch_unassign_users(
        &self,
        request: Request<pb::BatchUnassignUsersRequest>,
    ) -> Result<Response<pb::BatchUnassignUsersResponse>, Status> {
        let (command, context) = parse_write::<_, UnassignUsers>(request)?;
        let reply = |output, revision: Revision| pb::BatchUnassignUsersResponse {
            unassigned_count: member::count(output),
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }
}
