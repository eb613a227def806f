//! A server in this process, with its own database and port.

use clap::Parser as _;
use group_service::{
    config::Config,
    listen::Security,
    pb::{
        self, access_service_client::AccessServiceClient,
        change_service_client::ChangeServiceClient, group_service_client::GroupServiceClient,
        role_service_client::RoleServiceClient, user_service_client::UserServiceClient,
    },
    server::{self, Listeners},
    store::{Db, Location, Settings},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    Database,
    spans::{self, Trace},
};

pub(crate) type Traced = InterceptedService<Channel, InjectTraceparent>;
pub(crate) type Groups = GroupServiceClient<Traced>;
pub(crate) type Roles = RoleServiceClient<Traced>;
pub(crate) type Users = UserServiceClient<Traced>;
pub(crate) type Access = AccessServiceClient<Traced>;
pub(crate) type Changes = ChangeServiceClient<Traced>;

/// Adds the caller's `traceparent` to every call.
#[derive(Clone, Debug, Default)]
pub(crate) struct InjectTraceparent(Option<Trace>);

impl Interceptor for InjectTraceparent {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(trace) = &self.0 {
            let value = trace.traceparent().parse().expect("a traceparent is ASCII");
            request.metadata_mut().insert("traceparent", value);
        }
        Ok(request)
    }
}

/// A running server and clients for it.
pub(crate) struct TestServer {
    pub(crate) groups: Groups,
    pub(crate) roles: Roles,
    pub(crate) users: Users,
    pub(crate) access: Access,
    pub(crate) changes: Changes,
    pub(crate) channel: Channel,
    pub(crate) address: std::net::SocketAddr,
    /// The address of `/metrics`, `/livez` and `/readyz`.
    pub(crate) metrics: std::net::SocketAddr,
    pub(crate) db: Db,
    pub(crate) database: std::sync::Arc<Database>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let database = Database::create().await;
        let location = Location::parse(database.url()).expect("a URL");
        Self::with(database.into(), Settings::new(location)).await
    }

    /// Starts a server without a cache.
    pub(crate) async fn without_cache() -> Self {
        let database = Database::create().await;
        let location = Location::parse(database.url()).expect("a URL");
        let settings = Settings {
            cache_bytes: 0,
            ..Settings::new(location)
        };
        Self::with(database.into(), settings).await
    }

    /// Starts one of several servers on the same database.
    pub(crate) async fn with(database: std::sync::Arc<Database>, settings: Settings) -> Self {
        spans::start_recording_spans();
        let db = Db::open(&settings).await.expect("the database opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let metrics_listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let metrics = metrics_listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let listeners = Listeners {
            grpc: listener,
            metrics: Some(metrics_listener),
        };
        let config = Config::try_parse_from(["group-service"]).expect("defaults");
        let serving = tokio::spawn({
            let db = db.clone();
            async move {
                let stopped = async move {
                    let _ = stopped.await;
                };
                server::run(listeners, Security::default(), &config, db, stopped)
                    .await
                    .expect("the server runs");
            }
        });
        let channel = Channel::from_shared(format!("http://{address}"))
            .expect("a URI")
            .connect()
            .await
            .expect("the server accepts");
        let mut test_server = Self {
            groups: Groups::new(InterceptedService::new(
                channel.clone(),
                InjectTraceparent::default(),
            )),
            roles: Roles::new(InterceptedService::new(
                channel.clone(),
                InjectTraceparent::default(),
            )),
            users: Users::new(InterceptedService::new(
                channel.clone(),
                InjectTraceparent::default(),
            )),
            access: Access::new(InterceptedService::new(
                channel.clone(),
                InjectTraceparent::default(),
            )),
            changes: Changes::new(InterceptedService::new(
                channel.clone(),
                InjectTraceparent::default(),
            )),
            channel,
            address,
            metrics,
            db,
            database,
            stop: Some(stop),
            serving: Some(serving),
        };
        test_server.trace(None);
        test_server
    }

    /// Makes the following calls part of this trace.
    pub(crate) fn trace(&mut self, trace: Option<Trace>) {
        let inject = InjectTraceparent(trace);
        let channel = &self.channel;
        self.groups = Groups::new(InterceptedService::new(channel.clone(), inject.clone()));
        self.roles = Roles::new(InterceptedService::new(channel.clone(), inject.clone()));
        self.users = Users::new(InterceptedService::new(channel.clone(), inject.clone()));
        self.access = Access::new(InterceptedService::new(channel.clone(), inject.clone()));
        self.changes = Changes::new(InterceptedService::new(channel.clone(), inject));
    }

    /// Makes the following calls part of a new trace, and returns it.
    pub(crate) fn traced(&mut self) -> Trace {
        let trace = Trace::new();
        self.trace(Some(trace));
        trace
    }

    /// Stops the server and waits until it has ended.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            serving.await.expect("the server ends well");
        }
    }

    pub(crate) async fn role(&self, name: &str) -> pb::Role {
        let request = pb::CreateRoleRequest {
            name: name.into(),
            ..Default::default()
        };
        let response = self.roles.clone().create_role(request).await;
        response
            .expect("the role is created")
            .into_inner()
            .role
            .expect("a role")
    }

    /// Creates `count` roles; returns their ids.
    pub(crate) async fn many_roles(&self, prefix: &str, count: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(count);
        for number in 0..count {
            ids.push(self.role(&format!("{prefix} {number}")).await.id);
        }
        ids
    }

    pub(crate) async fn group(&self, title: &str, role_ids: &[&str]) -> pb::Group {
        let role_ids = role_ids.iter().map(ToString::to_string).collect();
        let request = pb::CreateGroupRequest {
            title: title.into(),
            role_ids,
            ..Default::default()
        };
        let response = self.groups.clone().create_group(request).await;
        response
            .expect("the group is created")
            .into_inner()
            .group
            .expect("a group")
    }

    pub(crate) async fn user(&self, username: &str) -> pb::User {
        let request = pb::CreateUserRequest {
            username: username.into(),
            ..Default::default()
        };
        let response = self.users.clone().create_user(request).await;
        response
            .expect("the user is created")
            .into_inner()
            .user
            .expect("a user")
    }

    /// Creates `count` users; returns their ids.
    pub(crate) async fn many_users(&self, prefix: &str, count: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(count);
        for number in 0..count {
            ids.push(self.user(&format!("{prefix} {number}")).await.id);
        }
        ids
    }

    pub(crate) async fn assign(&self, group_id: &str, user_id: &str) {
        let request = pb::AssignUserRequest {
            group_id: group_id.into(),
            user_id: user_id.into(),
            ..Default::default()
        };
        self.groups
            .clone()
            .assign_user(request)
            .await
            .expect("the user is assigned");
    }

    pub(crate) async fn get_group(&self, group_id: &str) -> pb::Group {
        let request = pb::GetGroupRequest {
            group_id: group_id.into(),
            ..Default::default()
        };
        let response = self.groups.clone().get_group(request).await;
        response
            .expect("the group is there")
            .into_inner()
            .group
            .expect("a group")
    }

    pub(crate) async fn get_role(&self, role_id: &str) -> pb::Role {
        let request = pb::GetRoleRequest {
            role_id: role_id.into(),
            ..Default::default()
        };
        let response = self.roles.clone().get_role(request).await;
        response
            .expect("the role is there")
            .into_inner()
            .role
            .expect("a role")
    }
}

/// An id that doesn't exist.
pub(crate) fn unknown_id() -> String {
    group_service::domain::GroupId::generate().to_string()
}
