//! Settings: parsing, precedence, error messages, `config show` and `config example`.

use std::{net::TcpListener, os::unix::fs::PermissionsExt, process::Output, time::Duration};

use crate::harness::binary;

pub(crate) async fn output(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = binary();
    command
        .args(args)
        .envs(variables.iter().copied())
        .current_dir(dir.path());
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await;
    output.expect("it ends").expect("it starts")
}

/// Checks for exit code 2 and a one-line error on standard error; returns that line.
pub(crate) fn refused(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for noise in ["panicked", "Error {", "backtrace", "secret"] {
        assert!(!stderr.contains(noise), "{stderr}");
    }
    stderr
}

#[tokio::test]
async fn invalid_setting_is_one_sentence_with_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("new.db").display());
    for (args, part) in [
        (
            &["--listen", "nonsense"][..],
            "must be an IP address and a port",
        ),
        (
            &["--listen", "127.0.0.1"],
            "must be an IP address and a port",
        ),
        (
            &["--listen", "300.0.0.1:1"],
            "must be an IP address and a port",
        ),
        (
            &["--listen", "127.0.0.1:65536"],
            "must be an IP address and a port",
        ),
        (&["--listen", ""], "--listen"),
        (&["--listen"], "--listen"),
        (
            &["--listen", &taken, "--database-url", &url],
            "cannot listen on",
        ),
        (
            &[
                "--insecure",
                "--listen",
                "192.0.2.1:1",
                "--database-url",
                &url,
            ],
            "cannot listen on 192.0.2.1:1",
        ),
        (&["--log", "loud"], "must be error, warn, info"),
        (&["--log", ""], "--log"),
        (&["--log", "info,"], "must be error, warn, info"),
        (&["--colour"], "--colour"),
        (&["sing"], "sing"),
        (&["serve", "now"], "now"),
        (
            &["--database-url", "oracle://me:secret@db.example/shop"],
            "must begin with `sqlite:`, `postgres://`, `mysql://` or `mariadb://`",
        ),
        (
            &["--database-url", "postgres://me:secret@db.example"],
            "must name a database",
        ),
        (
            &["--database-url", "mysql://me:secret@db.example:port/shop"],
            "can't be read",
        ),
        (
            &["--database-url", "mysql://me:12/secret@db.example/shop"],
            "can't be read",
        ),
        (
            &["--read-database-url", "me:secret@db.example/shop"],
            "--read-database-url: the database URL must begin",
        ),
        (
            &[
                "--database-url",
                "postgres://me:secret@127.0.0.1:1/shop",
                "--connect-timeout",
                "1s",
                "--log",
                "off",
            ],
            "can't open the database postgres://127.0.0.1:1/shop: ",
        ),
        (&["--database-connections", "1"], "--database-connections"),
        (&["--connect-timeout", "soon"], "--connect-timeout"),
        (&["--database-url", "shop.db"], "must begin with `sqlite:`"),
        (&["--database-url", ""], "must begin with `sqlite:`"),
        (&["--database-url", "sqlite:"], "must name a file"),
        (&["--database-url", "sqlite::memory:"], "must name a file"),
        (
            &["--database-url", "sqlite:a.db?mode=secret"],
            "takes no parameters",
        ),
    ] {
        let sentence = refused(&output(args, &[]).await);
        assert!(sentence.contains(part), "{args:?}: {sentence}");
    }
    for (variable, value, part) in [
        (
            "GROUP_SERVICE_LISTEN",
            "x",
            "GROUP_SERVICE_LISTEN: 'x': it must be",
        ),
        (
            "GROUP_SERVICE_DATABASE_URL",
            "mysql://me:secret@db",
            "must name a database",
        ),
        ("GROUP_SERVICE_LOG", "loud", "GROUP_SERVICE_LOG: 'loud'"),
    ] {
        let sentence = refused(&output(&[], &[(variable, value)]).await);
        assert!(sentence.contains(part), "{variable}: {sentence}");
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("listed").count(),
        0,
        "nothing was created"
    );
}

#[tokio::test]
async fn help_and_version_are_printed() {
    let help = output(&["--help"], &[("GROUP_SERVICE_DATABASE_URL", "secret")]).await;
    let text = String::from_utf8(help.stdout).expect("text");
    assert!(help.status.success());
    for part in [
        "--listen",
        "GROUP_SERVICE_LISTEN",
        "127.0.0.1:50051",
        "--database-url",
        "GROUP_SERVICE_DATABASE_URL",
        "sqlite:group-service.db",
        "--log",
        "serve",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
    let version = output(&["--version"], &[]).await;
    let expected = format!("group-service {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).expect("text"), expected);
}

/// Writes a configuration file to a new directory; returns its path.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("group-service.toml");
    std::fs::write(&path, text).expect("written");
    let path = path.display().to_string();
    (dir, path)
}

async fn shown(args: &[&str], variables: &[(&str, &str)]) -> String {
    let args = [args, &["config", "show"]].concat();
    let output = output(&args, variables).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn flags_override_variables_override_file() {
    let (_dir, path) = file(
        "# ours\nmax_streams = 7\nmax_queue = 8\nmax_watchers = 9\n\n\
         grants = [\"a=read\", \"b=write,check\"]\ninsecure = true\n\
         database_url = \"postgres://me:secret@db.example/shop\"\n",
    );
    let variables = [
        ("GROUP_SERVICE_CONFIG", path.as_str()),
        ("GROUP_SERVICE_MAX_QUEUE", "18"),
        ("GROUP_SERVICE_MAX_WATCHERS", "19"),
    ];
    let text = shown(&["--max-watchers", "29"], &variables).await;
    for line in [
        format!("max_streams = 7  # {path}:2"),
        "max_queue = 18  # GROUP_SERVICE_MAX_QUEUE".to_owned(),
        "max_watchers = 29  # --max-watchers".to_owned(),
        format!("grants = [\"a=read\", \"b=write,check\"]  # {path}:6"),
        format!("insecure = true  # {path}:7"),
        format!("database_url = \"postgres://db.example/shop\"  # {path}:8"),
        "max_connections = 4096".to_owned(),
        "#max_rate is not set".to_owned(),
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "no {line} in {text}"
        );
    }
    assert!(!text.contains("secret"), "{text}");
    let check = output(&["--config", &path, "config", "check"], &[]).await;
    assert_eq!(check.stdout, b"the configuration is right\n");
}

#[tokio::test]
async fn all_configuration_errors_are_reported_before_startup() {
    let (dir, path) = file(
        "listen = \"nonsense\"\ndatabse_url = \"x\"\ndatabase_connections = 1\n\
         database_url = \"oracle://me:secret@x/y\"\ngrants = [\"a=read\", 5]\nlog = [\"info\"]\n\
         max_queue = = 3\nentirely_unheard_of = 1\nmax_rate = { a = 1 }\n",
    );
    let args = ["--config", &path, "--compression", "zip", "--tls-key", "x"];
    let output_of = output(&args, &[("GROUP_SERVICE_MAX_STREAMS", "many")]).await;
    assert_eq!(output_of.status.code(), Some(2));
    let text = String::from_utf8(output_of.stderr).expect("text");
    for part in [
        ":1: listen: 'nonsense': it must be an IP address and a port",
        ":2: there is no setting databse_url; was database_url meant?",
        ":3: database_connections: '1': 1 is not in",
        ":4: database_url: the database URL must begin with",
        ":5: grants: '5': it must be CALLER=PERMISSIONS",
        ":6: log: it must be one value",
        ":7: ",
        ":8: there is no setting entirely_unheard_of\n",
        ":9: max_rate: it must be one value",
        "error: --compression: 'zip': it must be one of off, gzip",
        "error: GROUP_SERVICE_MAX_STREAMS: 'many': ",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
    assert!(
        text.lines().all(|line| line.starts_with("error: ")),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    for (text, part) in [
        (
            "default_deadline = \"10m\"",
            "is longer than --max-deadline",
        ),
        ("tls_certificate = \"c.pem\"", "TLS takes"),
        ("listen = \"0.0.0.0:0\"", "--insecure"),
    ] {
        let (_dir, path) = file(text);
        let sentence = refused(&output(&["--config", &path], &[]).await);
        assert!(sentence.contains(part), "{sentence}");
    }
    let sentence = refused(&output(&["--config", "/nowhere.toml"], &[]).await);
    assert!(
        sentence.contains("/nowhere.toml: No such file"),
        "{sentence}"
    );
    let absent = [
        "--tls-certificate",
        "/nowhere.pem",
        "--tls-key",
        "/nowhere.pem",
        "config",
        "check",
    ];
    let sentence = refused(&output(&absent, &[]).await);
    assert!(sentence.contains("/nowhere.pem"), "{sentence}");
}

/// The example has every setting with its default; uncommenting them changes nothing.
#[tokio::test]
async fn example_lists_every_setting_with_its_default() {
    let example = output(&["config", "example"], &[]).await.stdout;
    let example = String::from_utf8(example).expect("text");
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/group-service.toml");
    let kept = std::fs::read_to_string(kept).expect("docs/group-service.toml");
    assert!(
        kept == example,
        "docs/group-service.toml is not what `group-service config example` prints"
    );
    let usual = shown(&[], &[]).await;
    let settings = |text: &str, mark: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(mark));
        let words = lines.filter_map(|line| line.split(' ').next());
        words
            .filter(|word| word.starts_with(char::is_lowercase))
            .map(str::to_owned)
            .collect()
    };
    let reported = [settings(&usual, ""), settings(&usual, "#")].concat();
    let mut there = settings(&example, "#");
    assert!(there.len() > 20, "{there:?}");
    for setting in &reported {
        assert!(there.contains(setting), "{setting} is not in the example");
    }
    there.retain(|setting| usual.contains(&format!("{setting} = ")));
    let defaults: String = example
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| {
            there
                .iter()
                .any(|name| line.starts_with(&format!("{name} = ")))
        })
        .filter(|line| !line.starts_with("grants"))
        .map(|line| format!("{line}\n"))
        .collect();
    let (_dir, path) = file(&defaults);
    let same = shown(&["--config", &path], &[]).await;
    let bare = |line: &str| line.split("  # ").next().map(str::to_owned);
    assert!(same.lines().map(bare).eq(usual.lines().map(bare)), "{same}");
    assert!(same.matches(&path).count() > 15, "{same}");
}

/// The log filter is reloaded when the file changes; an invalid file changes nothing.
#[tokio::test]
async fn log_filter_is_reloaded_from_file() {
    let (dir, path) = file("log = \"warn\"\nlisten = \"127.0.0.1:0\"\n");
    let log = dir.path().join("log");
    let url = format!("sqlite:{}", dir.path().join("new.db").display());
    let mut server = binary()
        .args(["--config", &path, "--database-url", &url])
        .stdout(std::process::Stdio::piped())
        .stderr(std::fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let stdout = server.stdout.take().expect("piped");
    let mut stdout = tokio::io::BufReader::new(stdout);
    tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line)
        .await
        .expect("a start-up line");
    let logged = || std::fs::read_to_string(&log).expect("a log");
    let until = async |part: &str| {
        let reported = async {
            while !logged().contains(part) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reported = tokio::time::timeout(Duration::from_secs(30), reported).await;
        assert!(reported.is_ok(), "no {part:?} in {}", logged());
    };
    std::fs::write(&path, "log = \"loud\"\nlisten = \"127.0.0.1:0\"\n").expect("written");
    until(":1: log: 'loud': it must be").await;
    std::fs::write(&path, "log = \"info\"\nlisten = \"127.0.0.1:0\"\n").expect("written");
    let pid = server.id().expect("it runs").to_string();
    let mut kill = tokio::process::Command::new("kill");
    kill.args(["-s", "HUP", &pid]);
    assert!(kill.status().await.expect("kill runs").success());
    until("configuration file changed").await;
    assert!(
        server.try_wait().expect("known").is_none(),
        "SIGHUP ends it"
    );
    server.kill().await.expect("killed");
}

#[tokio::test]
async fn unknown_database_url_parameters_are_rejected() {
    let dir = tempfile::tempdir().expect("a directory");
    for (url, part) in [
        (
            "postgres://me:secret@db.example/shop?ssl_mode=secret",
            "parameter 1 of the database URL isn't known: was `sslmode` meant?",
        ),
        (
            "postgres://me:secret@db.example/shop?sslmode=verify-full&sslrootcerts=secret",
            "parameter 2 of the database URL isn't known: was `sslrootcert` meant?",
        ),
        (
            "postgres://db.example/shop?SSLMODE=secret",
            "was `sslmode` meant?",
        ),
        (
            "postgres://db.example/shop?sslmod=secret",
            "was `sslmode` meant?",
        ),
        (
            "postgres://db.example/shop?secret",
            "parameter 1 of the database URL isn't known: there are sslmode, sslrootcert, ",
        ),
        (
            "mysql://me:secret@db.example/shop?ssl_mode=secret",
            "was `ssl-mode` meant?",
        ),
        (
            "mariadb://db.example/shop?ssl-mode=VERIFY_CA&sslrootcert=secret",
            "parameter 2 of the database URL isn't known: there are ssl-mode, ssl-ca, ",
        ),
        (
            "mysql://db.example/shop?ssl-cas=secret",
            "was `ssl-ca` meant?",
        ),
        // The driver would use the last one.
        (
            "postgres://db.example/shop?sslmode=verify-full&ssl-mode=disable",
            "parameter 2 of the database URL is given twice: `ssl-mode`",
        ),
        (
            "postgres://db.example/shop?sslrootcert=a&sslmode=verify-full&ssl-ca=b",
            "parameter 3 of the database URL is given twice: `ssl-ca`",
        ),
        // The driver would ignore everything after the `#`.
        (
            "postgres://db.example/shop?host=/secret#&sslmode=verify-full",
            "can't be read",
        ),
        ("postgres://db.example/shop?sslmode=secret", "can't be read"),
    ] {
        for setting in ["--database-url", "--read-database-url"] {
            let sentence = refused(&output(&[setting, url], &[]).await);
            assert!(sentence.contains(part), "{url}: {sentence}");
        }
    }
    let unset = "postgres://db.example/shop";
    let misspelt = [("PGSSLMODE", "verify_full")];
    let sentence = refused(&output(&["--database-url", unset], &misspelt).await);
    assert!(sentence.contains("PGSSLMODE must be disable"), "{sentence}");
    // Parameters known to the driver are accepted.
    for url in [
        "postgres://db.example/shop?sslmode=verify-full&sslrootcert=a.pem&options[search_path]=a",
        "postgres://db.example/shop?host=/run/postgresql&application_name=a",
        "mysql://db.example/shop?ssl-mode=VERIFY_IDENTITY&ssl-ca=a.pem&socket=/run/mysqld.sock",
    ] {
        let text = shown(&["--database-url", url], &[]).await;
        let name = url.split('?').next().expect("a part");
        assert!(
            text.contains(&format!("database_url = \"{name}\"")),
            "{text}"
        );
    }
    // The driver doesn't log the password in an invalid line of its password file.
    std::fs::write(dir.path().join("pass"), "secret\n").expect("written");
    let pass = dir.path().join("pass").display().to_string();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&pass, private).expect("set");
    let variables = [("PGPASSFILE", &*pass)];
    let closed = "postgres://me@127.0.0.1:1/shop";
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--database-url",
        closed,
        "--connect-timeout",
        "1s",
        "--log",
        "trace",
    ];
    let output = output(&args, &variables).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("can't open the database"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn config_show_redacts_credentials_in_urls() {
    let args = [
        "--authentication",
        "required",
        "--jwt-keys",
        "https://id.example/keys?key=secret",
        "--jwt-issuer",
        "https://me:secret@id.example",
        "--jwt-audience",
        "https://shop.example/?secret#secret",
        "--database-url",
        "postgres://secret:secret@db.example/shop?password=secret",
        "--read-database-url",
        "mysql://secret:secret@db.example/shop?ssl-key=secret",
        "--otlp-endpoint",
        "https://spans.example",
    ];
    let text = shown(&args, &[]).await;
    for line in [
        "jwt_keys = \"https://id.example/keys?hidden\"",
        "jwt_issuer = \"https://hidden\"",
        "jwt_audience = \"https://shop.example/?hidden\"",
        "database_url = \"postgres://db.example/shop\"",
        "read_database_url = \"mysql://db.example/shop\"",
        "otlp_endpoint = \"https://spans.example\"",
    ] {
        assert!(
            text.lines().any(|shown| shown.starts_with(line)),
            "no {line} in {text}"
        );
    }
    assert!(!text.contains("secret"), "{text}");
    // Credentials appear neither in the help nor in error messages.
    let variables = [("GROUP_SERVICE_JWT_KEYS", "https://id.example/?secret")];
    let help = output(&["--help"], &variables).await;
    let text = String::from_utf8(help.stdout).expect("text");
    assert!(!text.contains("secret"), "{text}");
    for url in [
        "http://id.example/keys?secret",
        "ftp://me:secret@id.example/",
    ] {
        refused(&output(&["--jwt-keys", url], &[]).await);
    }
}
