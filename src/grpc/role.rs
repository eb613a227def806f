//! `groups.v1.RoleService`.

use tonic::{Request, Response, Status};

use super::{page::truncate_page, request_context::parse_write, rule::parse_rules, timestamp};
use crate::{
    domain::{
        CreateRole, DeleteRole, Description, Etag, Get, ListRoles, Name, Order, PageRequest,
        Revision, RoleId, RoleRef, Scope, SearchQuery, UpdateRole, Violations,
    },
    error::Error,
    pb::{self, role_service_server::RoleService},
    store::{self, AtRevision, Db, role::Role},
};

/// The implementation of `groups.v1.RoleService`.
#[derive(Debug)]
pub struct Roles(pub Db);

#[tonic::async_trait]
impl RoleService for Roles {
    async fn create_role(
        &self,
        request: Request<pb::CreateRoleRequest>,
    ) -> Result<Response<pb::CreateRoleResponse>, Status> {
        let (command, context) = parse_write::<_, CreateRole>(request)?;
        let reply = |output, revision: Revision| pb::CreateRoleResponse {
            role: Some(pb::Role::from(output)),
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn get_role(
        &self,
        request: Request<pb::GetRoleRequest>,
    ) -> Result<Response<pb::GetRoleResponse>, Status> {
        let get = Get::try_from(request.into_inner())?;
        let AtRevision { value, revision } = store::read(&self.0, &get).await?;
        Ok(Response::new(pb::GetRoleResponse {
            role: Some(value.into()),
            revision: revision.number(),
        }))
    }

    async fn list_roles(
        &self,
        request: Request<pb::ListRolesRequest>,
    ) -> Result<Response<pb::ListRolesResponse>, Status> {
        let list = ListRoles::try_from(request.into_inner())?;
        let page = store::read(&self.0, &list).await?;
        let revision = page.revision.number();
        let (roles, next_page_token) = truncate_page(page, &list.page.scope);
        Ok(Response::new(pb::ListRolesResponse {
            roles,
            next_page_token,
            revision,
        }))
    }

    async fn update_role(
        &self,
        request: Request<pb::UpdateRoleRequest>,
    ) -> Result<Response<pb::UpdateRoleResponse>, Status> {
        let (command, context) = parse_write::<_, UpdateRole>(request)?;
        let reply = |output, revision: Revision| pb::UpdateRoleResponse {
            role: Some(pb::Role::from(output)),
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }

    async fn delete_role(
        &self,
        request: Request<pb::DeleteRoleRequest>,
    ) -> Result<Response<pb::DeleteRoleResponse>, Status> {
        let (command, context) = parse_write::<_, DeleteRole>(request)?;
        let reply = |_, revision: Revision| pb::DeleteRoleResponse {
            revision: revision.number(),
        };
        Ok(Response::new(
            store::write(&self.0, command, context, reply).await?,
        ))
    }
}

impl TryFrom<pb::CreateRoleRequest> for CreateRole {
    type Error = Error;

    fn try_from(request: pb::CreateRoleRequest) -> Result<Self, Error> {
        let pb::CreateRoleRequest {
            name,
            description,
            rules,
            request_id: _,
        } = request;
        let mut violations = Violations::default();
        let name = violations.name("name", &name);
        let description = violations.check("description", Description::parse(&description));
        let rules = parse_rules(&mut violations, "rules", rules);
        match (name, description, rules) {
            (Some(name), Some(description), Some(rules)) => Ok(Self {
                name,
                description,
                rules,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::GetRoleRequest> for Get<RoleId> {
    type Error = Error;

    fn try_from(request: pb::GetRoleRequest) -> Result<Self, Error> {
        let pb::GetRoleRequest {
            role_id,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let id = violations.id("role_id", &role_id);
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        match (id, min_revision) {
            (Some(id), Some(min_revision)) => Ok(Self { id, min_revision }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::ListRolesRequest> for ListRoles {
    type Error = Error;

    fn try_from(request: pb::ListRolesRequest) -> Result<Self, Error> {
        let pb::ListRolesRequest {
            page_size,
            page_token,
            query,
            order_by,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let query = violations.check("query", SearchQuery::parse(&query));
        let order = violations.check("order_by", Order::parse(&order_by, "name"));
        let scope = query
            .as_ref()
            .map(|query| Scope::new("roles").text(query.as_ref()));
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, scope);
        match (page, query, min_revision) {
            (Some(page), Some(query), Some(min_revision)) => Ok(Self {
                page,
                query,
                min_revision,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::UpdateRoleRequest> for UpdateRole {
    type Error = Error;

    fn try_from(request: pb::UpdateRoleRequest) -> Result<Self, Error> {
        let pb::UpdateRoleRequest {
            role_id,
            name,
            description,
            add_rules,
            remove_rules,
            etag,
            request_id: _,
        } = request;
        let mut violations = Violations::default();
        let id = violations.id("role_id", &role_id);
        let name = violations.optional("name", name.as_deref(), Name::parse);
        let description =
            violations.optional("description", description.as_deref(), Description::parse);
        let add = parse_rules(&mut violations, "add_rules", add_rules);
        let remove = parse_rules(&mut violations, "remove_rules", remove_rules);
        if let (Some(add), Some(remove)) = (&add, &remove) {
            for (index, _) in remove
                .iter()
                .enumerate()
                .filter(|(_, rule)| add.contains(rule))
            {
                let field = format!("remove_rules[{index}]");
                violations.add(field, "must not be in add_rules, too");
            }
        }
        let etag = Etag::parse_optional(etag);
        match (id, name, description, add, remove) {
            (Some(id), Some(name), Some(description), Some(add), Some(remove))
                if violations.is_empty() =>
            {
                Ok(Self {
                    id,
                    name,
                    description,
                    add,
                    remove,
                    etag,
                })
            }
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::DeleteRoleRequest> for DeleteRole {
    type Error = Error;

    fn try_from(request: pb::DeleteRoleRequest) -> Result<Self, Error> {
        let pb::DeleteRoleRequest {
            role_id,
            etag,
            allow_missing,
        } = request;
        let mut violations = Violations::default();
        let etag = Etag::parse_optional(etag);
        match violations.id("role_id", &role_id) {
            Some(id) => Ok(Self {
                id,
                etag,
                allow_missing,
            }),
            None => Err(violations.into()),
        }
    }
}

impl From<Role> for pb::Role {
    fn from(Role { row, rules }: Role) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name.into_string(),
            description: row.description.into_string(),
            group_count: row.group_count,
            create_time: Some(timestamp(row.created_at)),
            update_time: Some(timestamp(row.updated_at)),
            etag: row.version.etag(),
            rules: rules.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<RoleRef> for pb::RoleRef {
    fn from(RoleRef { id, name }: RoleRef) -> Self {
        Self {
            id: id.to_string(),
            name: name.into_string(),
        }
    }
}
