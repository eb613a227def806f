//! `groups.v1.GroupService`. Its conversions stand in `group/convert.rs` and `group/member.rs`.

mod convert;
mod member;

use tonic::{Request, Response, Status};

use super::page::{fit, total};
use crate::{
    domain::{
        AssignUsers, CreateGroup, DeleteGroup, GroupId, ListGroups, ListRolesInGroup,
        ListUsersInGroup, UnassignUsers, UpdateGroup,
    },
    pb::{self, group_service_server::GroupService},
    store::{self, Db},
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
        let command = CreateGroup::try_from(request.into_inner())?;
        let group = Some(store::write(&self.0, command).await?.into());
        Ok(Response::new(pb::CreateGroupResponse { group }))
    }

    async fn get_group(
        &self,
        request: Request<pb::GetGroupRequest>,
    ) -> Result<Response<pb::GetGroupResponse>, Status> {
        let id = GroupId::try_from(request.into_inner())?;
        let group = Some(store::group::get(&self.0, id).await?.into());
        Ok(Response::new(pb::GetGroupResponse { group }))
    }

    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<pb::ListGroupsResponse>, Status> {
        let list = ListGroups::try_from(request.into_inner())?;
        let page = store::group::list(&self.0, &list).await?;
        let total_size = total(page.total_size);
        let (groups, next_page_token) = fit(page, &list.page.scope);
        Ok(Response::new(pb::ListGroupsResponse {
            groups,
            next_page_token,
            total_size,
        }))
    }

    async fn update_group(
        &self,
        request: Request<pb::UpdateGroupRequest>,
    ) -> Result<Response<pb::UpdateGroupResponse>, Status> {
        let command = UpdateGroup::try_from(request.into_inner())?;
        let group = Some(store::write(&self.0, command).await?.into());
        Ok(Response::new(pb::UpdateGroupResponse { group }))
    }

    async fn delete_group(
        &self,
        request: Request<pb::DeleteGroupRequest>,
    ) -> Result<Response<pb::DeleteGroupResponse>, Status> {
        let command = DeleteGroup::try_from(request.into_inner())?;
        store::write(&self.0, command).await?;
        Ok(Response::new(pb::DeleteGroupResponse {}))
    }

    async fn list_roles_in_group(
        &self,
        request: Request<pb::ListRolesInGroupRequest>,
    ) -> Result<Response<pb::ListRolesInGroupResponse>, Status> {
        let list = ListRolesInGroup::try_from(request.into_inner())?;
        let page = store::role::list_in_group(&self.0, &list).await?;
        let (roles, next_page_token) = fit(page, &list.page.scope);
        Ok(Response::new(pb::ListRolesInGroupResponse {
            roles,
            next_page_token,
        }))
    }

    async fn list_users_in_group(
        &self,
        request: Request<pb::ListUsersInGroupRequest>,
    ) -> Result<Response<pb::ListUsersInGroupResponse>, Status> {
        let list = ListUsersInGroup::try_from(request.into_inner())?;
        let page = store::user::list_in_group(&self.0, &list).await?;
        let total_size = total(page.total_size);
        let (users, next_page_token) = fit(page, &list.page.scope);
        Ok(Response::new(pb::ListUsersInGroupResponse {
            users,
            next_page_token,
            total_size,
        }))
    }

    async fn assign_user(
        &self,
        request: Request<pb::AssignUserRequest>,
    ) -> Result<Response<pb::AssignUserResponse>, Status> {
        let command = AssignUsers::try_from(request.into_inner())?;
        store::write(&self.0, command).await?;
        Ok(Response::new(pb::AssignUserResponse {}))
    }

    async fn unassign_user(
        &self,
        request: Request<pb::UnassignUserRequest>,
    ) -> Result<Response<pb::UnassignUserResponse>, Status> {
        let command = UnassignUsers::try_from(request.into_inner())?;
        store::write(&self.0, command).await?;
        Ok(Response::new(pb::UnassignUserResponse {}))
    }

    async fn batch_assign_users(
        &self,
        request: Request<pb::BatchAssignUsersRequest>,
    ) -> Result<Response<pb::BatchAssignUsersResponse>, Status> {
        let command = AssignUsers::try_from(request.into_inner())?;
        let assigned_count = member::count(store::write(&self.0, command).await?);
        Ok(Response::new(pb::BatchAssignUsersResponse {
            assigned_count,
        }))
    }

    async fn batch_unassign_users(
        &self,
        request: Request<pb::BatchUnassignUsersRequest>,
    ) -> Result<Response<pb::BatchUnassignUsersResponse>, Status> {
        let command = UnassignUsers::try_from(request.into_inner())?;
        let unassigned_count = member::count(store::write(&self.0, command).await?);
        Ok(Response::new(pb::BatchUnassignUsersResponse {
            unassigned_count,
        }))
    }
}
