//! An event from anywhere: refused or valid, never a panic; a valid one always fits a block.
#![no_main]

use evermesh_event::{BlockBuilder, Fill, JournalId, NodeName, Origin, Sequence, StartId, validate};
use evermesh_proto::v1;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = v1::Event::decode(bytes) else { return };
    let fill = Fill { id: uuid::Uuid::nil(), now: std::time::SystemTime::UNIX_EPOCH };
    let Ok(valid) = validate(event, fill) else { return };
    let origin = Origin { node: NodeName::new("n").unwrap(), journal: JournalId::new([0; 16]) };
    let mut builder = BlockBuilder::new(origin, StartId::new([0; 16]), Sequence::ZERO);
    assert!(builder.fits(&valid));
    builder.push(Sequence::from_u64(1), &valid, false);
    let block = builder.finish().unwrap();
    let read = evermesh_event::Block::decode(block.encoded().clone()).unwrap();
    assert_eq!(read.entries().next().unwrap().decode().unwrap(), *valid.event());
    let _ = evermesh_telemetry::sampled(&valid.event().traceparent);
});
