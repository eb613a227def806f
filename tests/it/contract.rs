//! Checks for every RPC: its documentation, a successful call, every documented error, and its spans.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
};

use group_service::pb;
use opentelemetry::trace::SpanKind;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use sea_orm::DbBackend;

use crate::{
    access, changes, group,
    harness::{CallError, TestServer, Trace, engine, print_uncaptured, raw::methods},
    member, role, user,
};

pub(crate) type Run<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A successful call of an RPC: `run` prepares the data, makes the call, and returns its trace.
pub(crate) struct Success {
    pub(crate) rpc: &'static str,
    pub(crate) run: fn(&mut TestServer) -> Run<'_, Trace>,
}

/// A call of an RPC that fails with this reason.
pub(crate) struct Failure {
    pub(crate) rpc: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) run: fn(&mut TestServer) -> Run<'_, CallError>,
}

fn successes() -> Vec<Success> {
    [
        access::successes(),
        changes::successes(),
        group::successes(),
        member::successes(),
        role::successes(),
        user::successes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn failures() -> Vec<Failure> {
    [
        access::failures(),
        changes::failures(),
        group::failures(),
        member::failures(),
        role::failures(),
        user::failures(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The reasons listed after `Errors:` in the comment of an RPC.
fn documented(method: &MethodDescriptor) -> BTreeSet<String> {
    let comment = comment(method.parent_file().file_descriptor_proto(), method.path());
    let Some((_, errors)) = comment.split_once("Errors:") else {
        return BTreeSet::new();
    };
    errors
        .split('`')
        .filter(|word| {
            word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        })
        .map(str::to_owned)
        .collect()
}

/// docs/api.md explains every reason, and what to do about it.
#[test]
fn error_table_lists_every_reason() {
    let page = include_str!("../../docs/api.md");
    let table = page.split_once("\n| code | reason |").expect("a table").1;
    let table = table.split_once("\n\n").expect("an end").0;
    let is_reason =
        |word: &&str| word.len() > 4 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    // Only the column of reasons counts.
    let cells = table.lines().filter_map(|row| row.split('|').nth(2));
    let reported: BTreeSet<_> = cells
        .flat_map(|cell| cell.split('`'))
        .filter(is_reason)
        .collect();
    let sources = [
        include_str!("../../src/grpc/status.rs"),
        include_str!("../../src/grpc/status/not_found.rs"),
    ];
    let reasons = sources.iter().flat_map(|text| text.split('"'));
    // The response to a cancelled call is never received.
    let reasons = reasons
        .filter(is_reason)
        .filter(|word| *word != "CANCELLED");
    let missing: BTreeSet<_> = reasons
        .filter(|reason| !reported.contains(reason))
        .collect();
    assert!(missing.is_empty(), "not in docs/api.md: {missing:?}");
}

#[tokio::test]
async fn every_rpc_succeeds_and_records_spans() {
    let mut table: BTreeMap<_, _> = successes().into_iter().map(|s| (s.rpc, s.run)).collect();
    let mut statements = Vec::new();
    for method in methods() {
        let run = table.remove(method.name());
        let run = run.unwrap_or_else(|| panic!("no success test of {}", method.full_name()));
        let mut test_server = TestServer::start().await;
        let trace = run(&mut test_server).await;
        spans_are_complete(&method, &trace).await;
        statements.push(format!("{} {}", method.name(), trace.statements().await));
    }
    print_uncaptured(&format!(
        "statements on {:?}, with an empty cache and without begin and commit: {}",
        engine(),
        statements.join(", ")
    ));
    assert!(
        table.is_empty(),
        "tests of RPCs that aren't there: {:?}",
        table.keys()
    );
}

async fn spans_are_complete(method: &MethodDescriptor, trace: &Trace) {
    let spans = trace.spans().await;
    let rpc = format!("{}/{}", method.parent_service().full_name(), method.name());
    let servers: Vec<_> = spans
        .iter()
        .filter(|s| s.kind == SpanKind::Server)
        .collect();
    let [server] = servers[..] else {
        panic!("{rpc} leaves server spans {servers:?}")
    };
    assert_eq!(server.name, rpc);
    assert_eq!(
        server.parent, trace.caller,
        "{rpc} continues the caller's trace"
    );
    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", rpc.as_str()),
        // A watch stream only ends when the client cancels it.
        (
            "rpc.response.status_code",
            if method.is_server_streaming() {
                "CANCELLED"
            } else {
                "OK"
            },
        ),
        ("network.peer.address", "127.0.0.1"),
        ("server.address", "127.0.0.1"),
    ] {
        assert_eq!(
            server.attribute(key).as_deref(),
            Some(value),
            "{key} of {rpc}"
        );
    }
    // Statement spans are children of the transaction's span if there is one, otherwise of the server span.
    let statements: Vec<_> = spans.iter().filter(|span| span.is_statement()).collect();
    assert!(
        !statements.is_empty(),
        "{rpc} leaves no statement in {spans:?}"
    );
    let transaction = spans.iter().find(|span| span.name == "transaction");
    let writes = !["Get", "List", "Check", "BatchCheck", "Watch"]
        .iter()
        .any(|prefix| method.name().starts_with(prefix));
    assert_eq!(
        transaction.is_some(),
        writes,
        "{rpc} has a transaction if it writes"
    );
    let parent = transaction.unwrap_or(server);
    for statement in statements {
        assert_eq!(statement.parent, parent.id, "{statement:?} of {rpc}");
        let system = match engine() {
            DbBackend::Postgres => "postgresql",
            DbBackend::MySql => "mysql",
            _ => "sqlite",
        };
        assert_eq!(statement.attribute("db.system").as_deref(), Some(system));
    }
    if let Some(transaction) = transaction {
        assert_eq!(transaction.parent, server.id);
        for name in ["sea_orm.begin", "sea_orm.commit"] {
            let span = spans.iter().find(|span| span.name == name);
            assert_eq!(span.expect(name).parent, transaction.id);
        }
    }
}

#[tokio::test]
async fn every_documented_error_is_returned() {
    let mut table = BTreeMap::new();
    for Failure { rpc, reason, run } in failures() {
        table
            .entry((rpc, reason))
            .or_insert_with(Vec::new)
            .push(run);
    }
    let mut wanted = BTreeSet::new();
    for method in methods() {
        let mut reasons = documented(&method);
        reasons.insert("INVALID_REQUEST".to_owned());
        wanted.extend(
            reasons
                .into_iter()
                .map(|reason| (method.name().to_owned(), reason)),
        );
    }
    let tested: BTreeSet<_> = table
        .keys()
        .map(|(r, e)| ((*r).to_owned(), (*e).to_owned()))
        .collect();
    assert_eq!(
        tested, wanted,
        "tested on the left, documented on the right"
    );

    for ((rpc, reason), runs) in table {
        for run in runs {
            let mut test_server = TestServer::start().await;
            let reported = run(&mut test_server).await;
            assert_eq!(reported.reason, reason, "{rpc}: {reported:?}");
            assert_eq!(reported.code, code_of(reason), "{rpc}: {reported:?}");
        }
    }
}

/// The contract's table of errors.
fn code_of(reason: &str) -> tonic::Code {
    match reason {
        "INVALID_REQUEST" => tonic::Code::InvalidArgument,
        "GROUP_NOT_FOUND" | "ROLE_NOT_FOUND" | "USER_NOT_FOUND" | "USER_NOT_IN_GROUP" => {
            tonic::Code::NotFound
        }
        "GROUP_TITLE_TAKEN" | "ROLE_NAME_TAKEN" | "USERNAME_TAKEN" => tonic::Code::AlreadyExists,
        "GROUP_NEEDS_ROLE" | "ROLE_IN_USE" => tonic::Code::FailedPrecondition,
        "REVISION_UNKNOWN" | "REVISION_COMPACTED" => tonic::Code::OutOfRange,
        "ETAG_MISMATCH" => tonic::Code::Aborted,
        _ => panic!("{reason} is not in the contract"),
    }
}

#[test]
fn everything_is_documented() {
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let mut bare = Vec::new();
    let mut look = |name: &str, file: &prost_types::FileDescriptorProto, path: &[i32]| {
        if comment(file, path).trim().is_empty() {
            bare.push(name.to_owned());
        }
    };
    // Imported files are included in the descriptor set.
    assert!(pool.get_message_by_name("google.rpc.Status").is_some());
    let ours = |package: &str| package == "groups.v1";
    for service in pool.services().filter(|s| ours(s.package_name())) {
        let file = service.parent_file();
        let file = file.file_descriptor_proto();
        look(service.full_name(), file, service.path());
        for method in service.methods() {
            look(method.full_name(), file, method.path());
        }
    }
    for message in pool.all_messages().filter(|m| ours(m.package_name())) {
        let file = message.parent_file();
        let file = file.file_descriptor_proto();
        look(message.full_name(), file, message.path());
        for field in message.fields() {
            look(field.full_name(), file, field.path());
        }
    }
    for kind in pool.all_enums().filter(|e| ours(e.package_name())) {
        let file = kind.parent_file();
        let file = file.file_descriptor_proto();
        look(kind.full_name(), file, kind.path());
        for value in kind.values() {
            look(value.full_name(), file, value.path());
        }
    }
    assert!(bare.is_empty(), "without a comment: {bare:?}");
}

fn comment(file: &prost_types::FileDescriptorProto, path: &[i32]) -> String {
    let info = file
        .source_code_info
        .as_ref()
        .expect("the set has source info");
    info.location
        .iter()
        .find(|location| location.path == path)
        .map(|location| location.leading_comments().to_owned())
        .unwrap_or_default()
}
