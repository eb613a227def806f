//! Authentication by tokens, and permissions.

use std::{sync::Arc, time::Duration};

use group_service::{
    domain::Token,
    pb::{
        self, access_service_client::AccessServiceClient,
        change_service_client::ChangeServiceClient, role_service_client::RoleServiceClient,
    },
    store::Location,
};
use sea_orm::DbBackend;
use tonic::{Code, Request, metadata::MetadataValue, transport::Channel};

use crate::{
    harness::{
        Database, Process, binary, engine, expect_error,
        raw::{RawResponse, methods, send},
    },
    metrics,
    settings::{output, refused},
    tls,
};

/// A server with TLS that requires tokens, and its database.
struct AuthServer {
    server: Process,
    channel: Channel,
    database: Arc<Database>,
    /// Holds the server's certificate while it serves.
    _files: tempfile::TempDir,
}

impl AuthServer {
    async fn start() -> Self {
        let database = Arc::new(Database::create().await);
        let authority = tls::authority();
        let files = tempfile::tempdir().expect("a directory");
        tls::put(files.path(), &tls::server(&authority), &authority);
        let mut command = binary();
        command
            .args(["--listen", "127.0.0.1:0", "--authentication", "required"])
            .args(["--database-url", database.url()])
            .arg("--tls-certificate")
            .arg(files.path().join("server.pem"))
            .arg("--tls-key")
            .arg(files.path().join("key.pem"));
        let server = Process::spawn(command).await;
        let channel = tls::connect(&server, &authority, None).await;
        Self {
            channel: channel.expect("a certificate that is trusted"),
            server,
            database,
            _files: files,
        }
    }

    /// Runs `group-service token`; returns its standard output.
    async fn token(&self, args: &[&str]) -> String {
        let command = [&["token"], args, &["--database-url", self.database.url()]].concat();
        let output = output(&command, &[]).await;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{complaint}");
        String::from_utf8(output.stdout).expect("text")
    }

    async fn create(&self, caller: &str, permissions: &str, further: &[&str]) -> String {
        let args = [&["create", caller, "--permissions", permissions], further].concat();
        let token = self.token(&args).await.trim_end().to_owned();
        assert_eq!(token.len(), 68, "{token}");
        token
    }

    /// Waits until the server accepts the token, or rejects it.
    async fn wait_until_accepted(&self, token: &str, wanted: bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let rpc = "groups.v1.GroupService/GetGroup";
        while (self.code(rpc, Some(token)).await != Code::Unauthenticated) != wanted {
            assert!(tokio::time::Instant::now() < deadline, "{token}: {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Calls an RPC with an empty message; returns the status code.
    async fn code(&self, rpc: &str, token: Option<&str>) -> Code {
        let mut request = Request::new(Vec::new());
        if let Some(token) = token {
            authorize(&mut request, token);
        }
        self.call(rpc, request)
            .await
            .map_or_else(|status| status.code(), |_| Code::Ok)
    }

    /// Calls an RPC.
    async fn call(&self, rpc: &str, request: Request<Vec<u8>>) -> RawResponse {
        send(&self.channel, &format!("/{rpc}"), request).await
    }
}

/// An empty message with this `authorization` header.
fn with_authorization_header(value: &str) -> Request<Vec<u8>> {
    let mut request = Request::new(Vec::new());
    let value = value.parse().expect("ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

fn authorize<T>(request: &mut Request<T>, token: &str) {
    let value = format!("Bearer {token}").parse().expect("ASCII");
    request.metadata_mut().insert("authorization", value);
}

pub(crate) fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    authorize(&mut request, token);
    request
}

/// The permission that an RPC needs, derived from its name.
fn documented_permission(rpc: &str) -> &'static str {
    let (service, method) = rpc.split_once('/').expect("two parts");
    match (service, method) {
        ("grpc.health.v1.Health", _) => "",
        ("groups.v1.ChangeService", _) => "audit",
        (_, "CheckAccess" | "BatchCheckAccess") => "check",
        _ if service.starts_with("grpc.reflection.") => "read",
        _ if method.starts_with("Get") || method.starts_with("List") => "read",
        _ => "write",
    }
}

/// Formats a table row.
fn row<'a>(first: &str, further: impl Iterator<Item = &'a str>) -> String {
    let further: String = further.map(|cell| format!(" {cell} |")).collect();
    format!("| {first} |{further}\n")
}

#[tokio::test]
async fn every_rpc_requires_its_permission() {
    let w = AuthServer::start().await;
    let mut callers = vec![
        ("none", None, &[][..]),
        ("wrong", Some("gst_wrong".to_owned()), &[]),
    ];
    for permission in ["read", "check", "write", "audit", "act-as"] {
        let token = w.create(permission, permission, &[]).await;
        w.wait_until_accepted(&token, true).await;
        callers.push((
            permission,
            Some(token),
            match permission {
                "read" => &["read"][..],
                "check" => &["check"],
                "write" => &["write"],
                "audit" => &["audit"],
                _ => &["act-as"],
            },
        ));
    }
    let token = w.create("all", "all", &[]).await;
    w.wait_until_accepted(&token, true).await;
    callers.push(("all", Some(token), &["read", "check", "write", "audit"]));
    let expired = w.create("late", "all", &["--expires", "1s"]).await;
    // The server also rejects tokens that it doesn't know yet: wait until `token list`, by the same clock, shows
    // this one as expired.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !w.token(&["list"]).await.contains("  expired ") {
        assert!(tokio::time::Instant::now() < deadline, "it doesn't expire");
    }
    w.wait_until_accepted(&expired, false).await;
    callers.push(("expired", Some(expired), &[]));

    let rpcs = methods().into_iter().map(|method| {
        let service = method.parent_service().full_name().to_owned();
        format!("{service}/{}", method.name())
    });
    let others = [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    let mut rpcs: Vec<_> = rpcs.chain(others.map(str::to_owned)).collect();
    rpcs.sort();
    assert!(rpcs.len() > 30, "{rpcs:?}");
    let names = callers.iter().map(|(caller, ..)| *caller);
    let mut table = row("RPC", names.clone());
    table.push_str(&row("---", names.map(|_| "---")));
    for rpc in &rpcs {
        let need = documented_permission(rpc);
        let mut cells = Vec::new();
        for (caller, token, permissions) in &callers {
            let code = w.code(rpc, token.as_deref()).await;
            let refused = match code {
                Code::Unauthenticated | Code::PermissionDenied => Some(code),
                _ => None,
            };
            let wanted = if need.is_empty() || permissions.contains(&need) {
                None
            } else if permissions.is_empty() {
                Some(Code::Unauthenticated)
            } else {
                Some(Code::PermissionDenied)
            };
            assert_eq!(refused, wanted, "{rpc} by {caller}: {code:?}");
            cells.push(match refused {
                Some(Code::Unauthenticated) => "unknown",
                Some(_) => "denied",
                None => "may",
            });
        }
        table.push_str(&row(&format!("`{rpc}`"), cells.into_iter()));
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/permissions.md");
    let reported = std::fs::read_to_string(file).expect("docs/permissions.md");
    let there = reported.lines().filter(|line| line.starts_with('|'));
    let there: String = there.map(|line| format!("{line}\n")).collect();
    assert_eq!(there, table, "docs/permissions.md should have:\n{table}");
    // Unauthenticated callers don't learn which RPCs exist.
    let unknown = "groups.v1.GroupService/Nonsense";
    assert_eq!(w.code(unknown, None).await, Code::Unauthenticated);
    let read = callers[2].1.as_deref();
    assert_eq!(w.code(unknown, read).await, Code::Unimplemented);
    w.server.stop().await;
}

#[tokio::test]
async fn invalid_credentials_all_get_the_same_error() {
    let w = AuthServer::start().await;
    let good = w.create("good", "all", &[]).await;
    let other = w.create("other", "all", &[]).await;
    w.wait_until_accepted(&good, true).await;
    w.wait_until_accepted(&other, true).await;
    // The id is 16 bytes, which are 21⅓ characters of base64; the secret follows.
    let mixed = format!("{}{}", &good[..30], &other[30..]);
    let last = if good.ends_with('A') { "E" } else { "A" };
    let bearers = [
        String::new(),
        "gst_".to_owned(),
        good[4..].to_owned(),
        good[..good.len() - 1].to_owned(),
        format!("{good}A"),
        format!("{}{last}", &good[..good.len() - 1]),
        good.to_uppercase(),
        mixed,
        format!("{good} {good}"),
        format!("gst_{}", "A".repeat(64)),
        "A".repeat(7000),
    ];
    let mut values: Vec<_> = bearers.map(|token| format!("Bearer {token}")).into();
    values.extend([
        good.clone(),
        format!("Basic {good}"),
        format!("Token {good}"),
        "Bearer".to_owned(),
    ]);
    let rpc = "groups.v1.GroupService/ListGroups";
    let mut answers = Vec::new();
    for value in &values {
        answers.push(expect_error(
            w.call(rpc, with_authorization_header(value)).await,
        ));
    }
    let mut doubled = with(Vec::new(), &good);
    let value: MetadataValue<_> = format!("Bearer {good}").parse().expect("ASCII");
    doubled.metadata_mut().append("authorization", value);
    answers.push(expect_error(w.call(rpc, doubled).await));
    let mut odd = Request::new(Vec::new());
    let value = MetadataValue::try_from(&b"Bearer \xff"[..]).expect("a header");
    odd.metadata_mut().insert("authorization", value);
    answers.push(expect_error(w.call(rpc, odd).await));
    for answer in &answers {
        assert_eq!(answer.code, Code::Unauthenticated, "{answer:?}");
        assert_eq!(answer.reason, "UNAUTHENTICATED");
        assert_eq!(answer.message, answers[0].message);
        assert!(answer.metadata.is_empty(), "{answer:?}");
    }
    let lower = with_authorization_header(&format!("bearer {good}"));
    w.call(rpc, lower).await.expect("a scheme in any case");
    let log = w.server.stop().await;
    assert!(!log.contains(&good[26..]), "a secret in the log");
    assert!(log.contains("enduser.id=\"good\""), "{log}");
}

#[tokio::test]
async fn actor_is_caller_unless_act_as_is_permitted() {
    let w = AuthServer::start().await;
    let plain = w.create("till", "write,audit", &[]).await;
    let proxy = w.create("back office", "write,act-as", &[]).await;
    w.wait_until_accepted(&plain, true).await;
    w.wait_until_accepted(&proxy, true).await;
    let mut roles = RoleServiceClient::new(w.channel.clone());
    let create = |name: &str, token: &str, actor: Option<&str>| {
        let message = pb::CreateRoleRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let mut request = with(message, token);
        if let Some(actor) = actor {
            let actor = actor.parse().expect("ASCII");
            request.metadata_mut().insert("x-actor", actor);
        }
        request
    };
    let created = roles.create_role(create("A", &plain, None)).await;
    created.expect("created");
    let refused = expect_error(roles.create_role(create("B", &plain, Some("ann"))).await);
    assert_eq!(refused.code, Code::PermissionDenied);
    assert_eq!(refused.reason, "PERMISSION_DENIED");
    assert_eq!(refused.metadata["permission"], "act-as");
    for actor in [Some("ann"), None] {
        let name = format!("C {actor:?}");
        let created = roles.create_role(create(&name, &proxy, actor)).await;
        created.expect("created");
    }
    let mut changes = ChangeServiceClient::new(w.channel.clone());
    let request = with(pb::ListChangesRequest::default(), &plain);
    let listed = changes.list_changes(request).await.expect("listed");
    let actors = listed.into_inner().changes.into_iter().map(|c| c.actor);
    assert_eq!(actors.collect::<Vec<_>>(), ["till", "ann", "back office"]);

    let mut access = AccessServiceClient::new(w.channel.clone());
    let request = with(pb::CheckAccessRequest::default(), &plain);
    let refused = expect_error(access.check_access(request).await);
    assert_eq!(refused.metadata["permission"], "check");
    w.server.stop().await;
}

#[tokio::test]
async fn revoked_token_is_rejected_and_its_streams_end() {
    let w = AuthServer::start().await;
    let token = w.create("follower", "read,audit", &[]).await;
    let other = w.create("other", "read", &[]).await;
    w.wait_until_accepted(&token, true).await;
    w.wait_until_accepted(&other, true).await;
    let mut changes = ChangeServiceClient::new(w.channel.clone());
    let request = with(pb::WatchChangesRequest::default(), &token);
    let mut feed = changes.watch_changes(request).await.expect("followed");
    let list = w.token(&["list"]).await;
    let line = list.lines().find(|line| line.contains("follower"));
    let id = line.expect("listed").split(' ').next().expect("an id");
    assert!(!list.contains(&token[26..]), "a secret in the list");
    w.token(&["revoke", id]).await;
    w.wait_until_accepted(&token, false).await;
    let ended = async {
        loop {
            match feed.get_mut().message().await {
                Ok(Some(_)) => {}
                ended => return ended.expect_err("an error"),
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    assert_eq!(ended.expect("it ends").code(), Code::Unauthenticated);
    w.wait_until_accepted(&other, true).await;
    assert!(w.token(&["list"]).await.contains("revoked 20"));
    let again = ["token", "revoke", id, "--database-url", w.database.url()];
    assert_eq!(output(&again, &[]).await.status.code(), Some(1));
    w.server.stop().await;
}

#[tokio::test]
async fn new_token_is_accepted_immediately() {
    let w = AuthServer::start().await;
    let rpc = "groups.v1.GroupService/ListGroups";
    for number in 0..10 {
        let token = w.create(&format!("caller {number}"), "read", &[]).await;
        assert_eq!(w.code(rpc, Some(&token)).await, Code::Ok, "{number}");
    }
    w.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_tokens_trigger_bounded_database_reads() {
    let database = Database::create().await;
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--authentication", "required"])
        .args(["--metrics-listen", "127.0.0.1:0"])
        .args(["--database-url", database.url()]);
    let server = Process::spawn(command).await;
    let address = metrics::address(&server);
    let reads = async || {
        let name = "group_service_statement_duration_seconds_count{operation=\"select\"}";
        metrics::samples(&address).await[name]
    };
    let (before, began) = (reads().await, std::time::Instant::now());
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let channel = server.connect().await;
        callers.spawn(async move {
            for _ in 0..5 {
                let mut request = Request::new(Vec::new());
                let token = Token::generate().expect("random bits").reveal();
                authorize(&mut request, &token);
                let answer = send(&channel, "/groups.v1.GroupService/ListGroups", request).await;
                let refused = answer.expect_err("an unknown token");
                assert_eq!(refused.code(), Code::Unauthenticated);
            }
        });
    }
    callers.join_all().await;
    let reads = reads().await - before;
    // Per second: two look-ups by the server itself, and ten for callers that send unknown tokens.
    let most = 5.0 + 12.0 * began.elapsed().as_secs_f64();
    assert!(reads <= most, "{reads} reads, of {most} at most");
    server.stop().await;
}

#[tokio::test]
async fn commands_create_no_database_and_report_which_one_they_use() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().expect("a directory");
    let backup = dir.path().join("backup.db").display().to_string();
    let id = crate::harness::unknown_id();
    let mut commands = vec![
        vec!["token", "create", "till", "--permissions", "all"],
        vec!["token", "list"],
        vec!["token", "revoke", &id],
        vec!["new-history"],
        vec!["migrate", "down"],
    ];
    if engine() == DbBackend::Sqlite {
        commands.push(vec!["migrate", "status"]);
        commands.push(vec!["backup", &backup]);
    }
    let run = async |command: &[&str]| {
        output(
            &[
                command,
                // Database servers with unsafe settings would be logged as warnings.
                &["--log", "error", "--database-url", database.url()],
            ]
            .concat(),
            &[],
        )
        .await
    };
    // Twice: the first run must not have created a database.
    for command in commands.iter().chain(&commands) {
        let line = refused(&run(command).await);
        assert!(line.contains("there is nothing there yet"), "{line}");
    }
    // By default, the database is in the working directory.
    for command in &commands {
        let mut program = binary();
        program.args(command).current_dir(dir.path());
        let line = refused(&program.output().await.expect("it runs"));
        let there = dir.path().join("group-service.db");
        assert!(line.contains(&there.display().to_string()), "{line}");
        let left = std::fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(left, 0, "{command:?}");
    }

    Process::start(database.url()).await.stop().await;
    let location = Location::parse(database.url()).expect("a URL");
    for command in &commands[..2] {
        let done = run(command).await;
        assert!(done.status.success(), "{done:?}");
        let reported = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            reported.ends_with(&format!("database: {location}\n")),
            "{reported}"
        );
    }
    let done = run(&commands[2]).await;
    assert_eq!(done.status.code(), Some(1));
    let reported = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(reported.contains(&location.to_string()), "{reported}");
}

#[tokio::test]
async fn non_loopback_listen_requires_tls_or_insecure_flag() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("new.db").display());
    let args = ["--listen", "0.0.0.0:0", "--database-url", &url];
    let complaint = refused(&output(&args, &[]).await);
    assert!(complaint.contains("--insecure"), "{complaint}");
    assert!(!dir.path().join("new.db").exists(), "nothing was opened");
    // Doesn't actually listen beyond loopback: the error message is enough.
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--insecure"])
        .args(["--database-url", &url]);
    let log = Process::spawn(command).await.stop().await;
    assert!(log.contains("WARN group_service: insecure"), "{log}");
    let wrong = ["token", "create", "a", "--permissions", "read,everything"];
    let complaint = refused(&output(&wrong, &[]).await);
    assert!(complaint.contains("is no permission"), "{complaint}");
}
