//! Official clients against the real binaries.
//!
//! What shows what. `py` and `js` are steps of the scripts `stream_kinds`, `consumer_kinds`, `buckets_whole` and `services` (each in both languages, told
//! to the gateway and to stock nats-server by [`client_scripts`]; other scripts are named), `rs` are tests of [`async_nats_kinds`] (told to both as well)
//! or of the module named, `cli` are files of `transcripts/` and tests of [`transcripts`] and [`watching`], compared with stock line by line. Beside
//! these, raw requests are compared in `like_stock*`, `timed_like_stock` and `differential`.
//!
//! | Streams | py | js | rs | cli |
//! |---|---|---|---|---|
//! | work queue, interest, legal changes | `edge_queues`, changes | retention | retention_limits_and_updates | streams, `nats_command_line` |
//! | limits, discard new per subject, message size, age | full | limits | retention_limits_and_updates | streams_of_all_kinds |
//! | memory, first sequence, metadata, compression | forms | retention, limits, paths | transforms_republish_and_copies | stream_flags |
//! | rollup, sealed, deny delete and purge | rollup, closed | rollup | rollup_seal_and_deny | stream_flags, stream_verbs |
//! | republish, transform | forms | paths | transforms_republish_and_copies | stream_flags |
//! | mirrors, sources; rings of them | `edge_origins`; – | paths; – | transforms_republish_and_copies, `async_nats_client`; – ([`like_stock_loops`]) | `nats_command_line`, bucket_verbs |
//! | direct get: one, next, last, batch, multi-last, by time | direct | direct | messages_are_got_and_removed | stream_verbs |
//! | delete, erase, purge in all forms, deleted details | removed | removed | messages_are_got_and_removed | stream_verbs |
//! | names and lists, filters, pages | removed | removed | messages_are_got_and_removed | streams |
//! | snapshot, restore, damaged archive | moved | – | [`backups`], [`damaged_archives`], `e2e` interrupted | stream_verbs, accounts_and_benchmarks, [`damaged_archives`] |
//! | consumer limits | limits | limits | retention_limits_and_updates | stream_flags |
//! | message ids, expected sequences | expected | expected | expectations_lives_and_counters | streams |
//! | life times, delete markers | lives | lives | expectations_lives_and_counters | stream_flags |
//! | counters | counters | counters | expectations_lives_and_counters | stream_flags |
//! | atomic batches; fast ingest | batches; fast | `edge_batches` | batches_and_schedules, `batches` (jetstream-extra) | stream_flags; fast_batches_by_hand |
//! | schedules | schedules | schedules | batches_and_schedules | – ([`timed_like_stock`]) |
//! | persist mode | forms | – | rollup_seal_and_deny | – |
//! | API level, strict fields | levels | account | – | stream_verbs |
//! | account: usage, limits | `limits_transcript` | account | batches_and_schedules | accounts_and_benchmarks |
//! | templates | – | – | – | – (gone from clients and stock: `e2e` templates) |
//!
//! | Consumers | py | js | rs | cli |
//! |---|---|---|---|---|
//! | deliver policies, several filters | starts | starts | consumers_begin_filter_and_replay | consumers |
//! | ack, nak, delay, term, progress, back-off, max deliver, ack all | acknowledged | acknowledged | consumers_are_acknowledged_paused_reset_and_changed | consumer_verbs |
//! | limits of requests, max_waiting, heartbeats | requests | requests | [`async_nats_client`] | consumer_verbs |
//! | headers only, replay original, memory, metadata | forms | forms | consumers_begin_filter_and_replay | consumer_verbs |
//! | pause, reset | paused | paused, `edge_groups` | consumers_are_acknowledged_paused_reset_and_changed | consumer_verbs |
//! | inactive threshold | idle | forms | consumers_are_acknowledged_paused_reset_and_changed | – |
//! | create and update actions | updated | updated | consumers_are_acknowledged_paused_reset_and_changed | consumer_verbs |
//! | push, queue groups, flow control, heartbeat, rate | `edge_push`, pushed | `edge_buckets`, pushed | [`async_nats_buckets`] | consumer_verbs |
//! | ordered | `edge_push` | `edge_buckets`, pushed | [`async_nats_buckets`] | accounts_and_benchmarks |
//! | sampling | pushed | pushed | consumers_are_acknowledged_paused_reset_and_changed | – |
//! | priority groups, unpin | groups | `edge_groups`, prioritized | a_pinned_consumer_and_an_overflow, [`consumers`] | consumer_verbs |
//! | advisories | told, `consumers_transcript` | told | – ([`like_stock_advisories`]) | events |
//! | redelivery across restarts | – | – | [`async_nats_buckets`]; `e2e` kill | – |
//!
//! | Buckets, services | py | js | rs | cli |
//! |---|---|---|---|---|
//! | create, update, delete, purge, history, keys, limits | values | values | values_in_every_operation | buckets, bucket_verbs |
//! | watches: history, updates, no deletes, headers, revision | watched | watched | values_are_watched | watches |
//! | life time per key, markers | lives | lives | values_live_for_a_time | bucket_verbs |
//! | compression, republish | told | values, told | values_are_told_mirrored_and_gathered | bucket_verbs |
//! | mirrored and gathered buckets | copies | copies | values_are_told_mirrored_and_gathered | bucket_verbs |
//! | objects: put, get, list, watch, metadata, delete, seal, chunks | objects | objects | objects_in_every_operation | objects, object_verbs, watches |
//! | links to objects and buckets | – | links | objects_in_every_operation | – |
//! | services: requests, errors, groups, discovery, statistics | `services` | `services` | services_in_every_operation | a_served_service |
#![allow(
    clippy::disallowed_methods,
    reason = "the suite waits for real processes; the product's clock is `server::clock`"
)]

mod async_nats_buckets;
mod async_nats_client;
mod async_nats_kinds;
mod backups;
mod client_scripts;
mod consumers;
mod damaged_archives;
mod differential;
mod like_stock;
mod like_stock_advisories;
mod like_stock_batches;
mod like_stock_details;
mod like_stock_headers;
mod like_stock_loops;
mod like_stock_origins;
mod like_stock_pedantic;
mod mqtt_scripts;
mod nats_command_line;
mod nats_scripts;
mod rumqttc_client;
mod scripts;
mod timed_like_stock;
mod tls;
mod transcripts;
mod watching;
mod wrong_types;
