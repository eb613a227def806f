//! Compiles the protos into code, a descriptor set and the lists of every request, without a system `protoc`.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fmt::{self, Write},
    fs,
    path::PathBuf,
};

use protox::prost_reflect::{Cardinality, DescriptorPool, Kind, MessageDescriptor};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = ["access", "change", "group", "role", "user"]
        .map(|name| format!("proto/groups/v1/{name}.proto"));

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)?;

    // Encoded by protox, which keeps the comments, so that reflection serves them.
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out_dir.join("descriptor_set.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    fs::write(
        out_dir.join("request_lists.rs"),
        request_lists(&compiler.descriptor_pool())?,
    )?;

    tonic_prost_build::configure()
        .build_client(true)
        .codec_path("crate::codec::LimitedCodec")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Generates the codec's trait implementations (`src/codec.rs`) for all request and response messages, with the lists
/// of the requests. The codec requires one for every message, so an RPC without them doesn't compile.
fn request_lists(pool: &DescriptorPool) -> Result<String, fmt::Error> {
    let mut code = String::new();
    let mut received = BTreeMap::new();
    for method in pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
    {
        received
            .entry(method.output().name().to_owned())
            .or_insert(None);
        received.insert(method.input().name().to_owned(), Some(method.input()));
    }
    let mut described = BTreeMap::new();
    for (name, request) in received {
        let lists = match &request {
            Some(request) => format!("Some({})", identifier(request)),
            None => "None".to_owned(),
        };
        let lists = format!("const LISTS: Option<&'static [Field]> = {lists};");
        writeln!(code, "impl RpcMessage for crate::pb::{name} {{ {lists} }}")?;
        if let Some(request) = request {
            describe(&request, &mut described)?;
        }
    }
    code.extend(described.into_values());
    Ok(code)
}

/// Describes the fields of a message that are lists, or messages that may contain some.
fn describe(message: &MessageDescriptor, described: &mut BTreeMap<String, String>) -> fmt::Result {
    let name = identifier(message);
    if described.contains_key(&name) {
        return Ok(());
    }
    described.insert(name.clone(), String::new());
    let mut code = format!("static {name}: &[Field] = &[");
    for field in message.fields() {
        let kind = field.kind();
        let repeated = field.cardinality() == Cardinality::Repeated;
        let element = match &kind {
            Kind::Message(inner) => {
                describe(inner, described)?;
                format!("Message(&{})", identifier(inner))
            }
            _ if !repeated => continue,
            Kind::String | Kind::Bytes => "Text".to_owned(),
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => "Fixed(8)".to_owned(),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => "Fixed(4)".to_owned(),
            _ => "Varint".to_owned(),
        };
        let (number, field) = (field.number(), field.name());
        write!(
            code,
            "Field {{ number: {number}, name: {field:?}, repeated: {repeated}, element: Element::{element} }},"
        )?;
    }
    writeln!(code, "];")?;
    described.insert(name, code);
    Ok(())
}

/// The name of the static that holds a message's fields.
fn identifier(message: &MessageDescriptor) -> String {
    message.full_name().replace('.', "_").to_uppercase()
}
