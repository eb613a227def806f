//! OpenFGA as a baseline: a separate server with the same directory in memory, and its check calls.

use std::{
    io::Write,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use crate::{
    calls::{Call, call},
    child::on_cores,
    directory::{Directory, RULES, denies, members, rule},
};

/// Long enough for a busy machine.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of tuples in one write.
const BATCH_SIZE: usize = 1000;

/// A running server, killed on drop.
#[derive(Debug)]
pub(crate) struct OpenFga {
    process: Child,
    http: String,
    grpc: String,
    store: String,
    model: String,
}

impl OpenFga {
    /// Starts a server with these additional settings and writes the directory to it; `None` if it isn't installed.
    pub(crate) fn start(directory: &Directory, further: &[&str]) -> Option<Self> {
        let there = Command::new("openfga").arg("version").output().is_ok();
        if !there || Command::new("curl").arg("--version").output().is_err() {
            return None;
        }
        let [http, grpc] = [(), ()].map(|()| {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            free.expect("a free port").to_string()
        });
        let process = on_cores("openfga".as_ref(), None)
            .args(["run", "--http-addr", &http, "--grpc-addr", &grpc])
            .args(["--log-level", "none", "--metrics-enabled=false"])
            .args(["--max-tuples-per-write", &BATCH_SIZE.to_string()])
            .args(further)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut server = Self {
            process,
            http,
            grpc,
            store: String::new(),
            model: String::new(),
        };
        let began = Instant::now();
        let store = loop {
            match server.post("stores", &json!({"name": "bench"})) {
                Some(made) => break made,
                None if began.elapsed() < STARTUP_TIMEOUT => {
                    std::thread::sleep(Duration::from_millis(50))
                }
                None => panic!("OpenFGA doesn't get ready"),
            }
        };
        server.store = store["id"].as_str().expect("an id").to_owned();
        server.fill(directory);
        Some(server)
    }

    /// The gRPC address.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// A call that checks, for one of these users by number, an action that a rule allows.
    pub(crate) fn check(&self, asked: Vec<(u64, [String; 3])>) -> Call {
        let questions: Vec<_> = asked
            .into_iter()
            .map(|(user, rule)| Check {
                store_id: self.store.clone(),
                tuple_key: Some(Tuple {
                    user: format!("user:{user}"),
                    relation: "may".to_owned(),
                    object: object(&rule),
                }),
                authorization_model_id: self.model.clone(),
            })
            .collect();
        call(move |channel, number| {
            let question = questions[(number % questions.len() as u64) as usize].clone();
            async move {
                let mut grpc = Grpc::new(channel);
                grpc.ready().await.expect("connected");
                let path = PathAndQuery::from_static("/openfga.v1.OpenFGAService/Check");
                let codec = ProstCodec::<Check, Checked>::default();
                let answer = grpc.unary(tonic::Request::new(question), path, codec);
                assert!(answer.await.expect("answered").into_inner().allowed);
            }
        })
    }

    fn fill(&mut self, directory: &Directory) {
        let path = format!("stores/{}/authorization-models", self.store);
        let made = self.post(&path, &model());
        let id = &made.expect("made")["authorization_model_id"];
        self.model = id.as_str().expect("an id").to_owned();
        let path = format!("stores/{}/write", self.store);
        for some in tuples(directory).chunks(BATCH_SIZE) {
            let body = json!({"writes": {"tuple_keys": some}});
            self.post(&path, &body).expect("written");
        }
    }

    /// Sends a request to the HTTP API; `None` unless it succeeds.
    fn post(&self, path: &str, body: &Value) -> Option<Value> {
        let mut curl = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--data", "@-"])
            .args(["--header", "Content-Type: application/json"])
            .arg(format!("http://{}/{path}", self.http))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut input = curl.stdin.take().expect("piped");
        // If it doesn't listen yet, it may have exited.
        let _ = input.write_all(body.to_string().as_bytes());
        drop(input);
        let output = curl.wait_with_output().expect("it ends");
        let answer = serde_json::from_slice(&output.stdout).ok();
        answer.filter(|_| output.status.success())
    }
}

impl Drop for OpenFga {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The authorization model: user, group, role, rule; a DENY rule overrides ALLOW rules.
fn model() -> Value {
    let direct = |of: &str, relation: Option<&str>| {
        let mut there = json!({"type": of});
        if let Some(relation) = relation {
            there["relation"] = relation.into();
        }
        json!({"directly_related_user_types": [there]})
    };
    let computed = |relation: &str| json!({"computedUserset": {"relation": relation}});
    let (holders, members) = (
        direct("role", Some("holder")),
        direct("group", Some("member")),
    );
    json!({"schema_version": "1.1", "type_definitions": [
        {"type": "user"},
        {"type": "group", "relations": {"member": {"this": {}}},
         "metadata": {"relations": {"member": direct("user", None)}}},
        {"type": "role", "relations": {"holder": {"this": {}}},
         "metadata": {"relations": {"holder": members}}},
        {"type": "rule", "relations": {
            "allowed": {"this": {}}, "denied": {"this": {}},
            "may": {"difference": {"base": computed("allowed"), "subtract": computed("denied")}}},
         "metadata": {"relations": {"allowed": holders.clone(), "denied": holders}}},
    ]})
}

fn tuples(directory: &Directory) -> Vec<Value> {
    let tuple = |user: String, relation: &str, object: String| json!({"user": user, "relation": relation, "object": object});
    let mut tuples: Vec<_> = members(directory)
        .into_iter()
        .map(|(group, user)| tuple(format!("user:{user}"), "member", format!("group:{group}")))
        .collect();
    for group in 0..directory.size.groups {
        for role in directory.roles_of_group(group) {
            let members = format!("group:{group}#member");
            tuples.push(tuple(members, "holder", format!("role:{role}")));
        }
    }
    for role in 0..directory.roles() {
        for number in 0..RULES {
            let effect = if denies(number) { "denied" } else { "allowed" };
            let holders = format!("role:{role}#holder");
            tuples.push(tuple(holders, effect, object(&rule(role, number))));
        }
    }
    tuples
}

fn object([bundle, controller, action]: &[String; 3]) -> String {
    format!("rule:{bundle}/{controller}/{action}")
}

/// `openfga.v1.CheckRequest`, with the fields needed here.
#[derive(Clone, PartialEq, prost::Message)]
struct Check {
    #[prost(string, tag = "1")]
    store_id: String,
    #[prost(message, optional, tag = "2")]
    tuple_key: Option<Tuple>,
    #[prost(string, tag = "4")]
    authorization_model_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Tuple {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    relation: String,
    #[prost(string, tag = "3")]
    object: String,
}

/// `openfga.v1.CheckResponse`, with the fields needed here.
#[derive(Clone, PartialEq, prost::Message)]
struct Checked {
    #[prost(bool, tag = "1")]
    allowed: bool,
}
