#include "config/postgres_setting_list.h"

#include <array>
#include <cfloat>
#include <climits>
#include <map>

namespace carpool::config {
namespace {

// The limits of PostgreSQL 15, or wider ones where another version has them.
constexpr std::array<IntSetting, 60> kInts = {{
    {"backend_flush_after", SettingUnit::Blocks, 0, 256},
    {"client_connection_check_interval", SettingUnit::Ms, 0, INT_MAX},
    {"commit_delay", SettingUnit::None, 0, 100000},
    {"commit_siblings", SettingUnit::None, 0, 1000},
    {"deadlock_timeout", SettingUnit::Ms, 1, INT_MAX},
    {"debug_discard_caches", SettingUnit::None, 0, 5},
    {"default_statistics_target", SettingUnit::None, 1, 10000},
    {"effective_cache_size", SettingUnit::Blocks, 1, INT_MAX},
    {"effective_io_concurrency", SettingUnit::None, 0, 1000},
    {"extra_float_digits", SettingUnit::None, -15, 3},
    {"from_collapse_limit", SettingUnit::None, 1, INT_MAX},
    {"geqo_effort", SettingUnit::None, 1, 10},
    {"geqo_generations", SettingUnit::None, 0, INT_MAX},
    {"geqo_pool_size", SettingUnit::None, 0, INT_MAX},
    {"geqo_threshold", SettingUnit::None, 2, INT_MAX},
    {"gin_fuzzy_search_limit", SettingUnit::None, 0, INT_MAX},
    {"gin_pending_list_limit", SettingUnit::Kb, 64, INT_MAX},
    {"idle_in_transaction_session_timeout", SettingUnit::Ms, 0, INT_MAX},
    {"idle_session_timeout", SettingUnit::Ms, 0, INT_MAX},
    {"io_combine_limit", SettingUnit::Blocks, 1, 128},
    {"join_collapse_limit", SettingUnit::None, 1, INT_MAX},
    {"lock_timeout", SettingUnit::Ms, 0, INT_MAX},
    {"log_min_duration_sample", SettingUnit::Ms, -1, INT_MAX},
    {"log_min_duration_statement", SettingUnit::Ms, -1, INT_MAX},
    {"log_parameter_max_length", SettingUnit::Bytes, -1, 1073741823},
    {"log_parameter_max_length_on_error", SettingUnit::Bytes, -1, 1073741823},
    {"log_temp_files", SettingUnit::Kb, -1, INT_MAX},
    {"logical_decoding_work_mem", SettingUnit::Kb, 64, INT_MAX},
    {"maintenance_io_concurrency", SettingUnit::None, 0, 1000},
    {"maintenance_work_mem", SettingUnit::Kb, 64, INT_MAX},
    {"max_parallel_maintenance_workers", SettingUnit::None, 0, 1024},
    {"max_parallel_workers", SettingUnit::None, 0, 1024},
    {"max_parallel_workers_per_gather", SettingUnit::None, 0, 1024},
    {"max_stack_depth", SettingUnit::Kb, 100, INT_MAX},
    {"min_parallel_index_scan_size", SettingUnit::Blocks, 0, 715827882},
    {"min_parallel_table_scan_size", SettingUnit::Blocks, 0, 715827882},
    {"post_auth_delay", SettingUnit::S, 0, 2147},
    {"scram_iterations", SettingUnit::None, 1, INT_MAX},
    {"statement_timeout", SettingUnit::Ms, 0, INT_MAX},
    {"tcp_keepalives_count", SettingUnit::None, 0, INT_MAX},
    {"tcp_keepalives_idle", SettingUnit::S, 0, INT_MAX},
    {"tcp_keepalives_interval", SettingUnit::S, 0, INT_MAX},
    {"tcp_user_timeout", SettingUnit::Ms, 0, INT_MAX},
    {"temp_buffers", SettingUnit::Blocks, 100, 1073741823},
    {"temp_file_limit", SettingUnit::Kb, -1, INT_MAX},
    {"transaction_timeout", SettingUnit::Ms, 0, INT_MAX},
    {"vacuum_buffer_usage_limit", SettingUnit::Kb, 0, 16777216},
    {"vacuum_cost_limit", SettingUnit::None, 1, 10000},
    {"vacuum_cost_page_dirty", SettingUnit::None, 0, 10000},
    {"vacuum_cost_page_hit", SettingUnit::None, 0, 10000},
    {"vacuum_cost_page_miss", SettingUnit::None, 0, 10000},
    {"vacuum_failsafe_age", SettingUnit::None, 0, 2100000000},
    {"vacuum_freeze_min_age", SettingUnit::None, 0, 1000000000},
    {"vacuum_freeze_table_age", SettingUnit::None, 0, 2000000000},
    {"vacuum_multixact_failsafe_age", SettingUnit::None, 0, 2100000000},
    {"vacuum_multixact_freeze_min_age", SettingUnit::None, 0, 1000000000},
    {"vacuum_multixact_freeze_table_age", SettingUnit::None, 0, 2000000000},
    {"wal_sender_timeout", SettingUnit::Ms, 0, INT_MAX},
    {"wal_skip_threshold", SettingUnit::Kb, 0, INT_MAX},
    {"work_mem", SettingUnit::Kb, 64, INT_MAX},
}};

constexpr std::array<RealSetting, 19> kReals = {{
    {"cpu_index_tuple_cost", 0, DBL_MAX},
    {"cpu_operator_cost", 0, DBL_MAX},
    {"cpu_tuple_cost", 0, DBL_MAX},
    {"cursor_tuple_fraction", 0, 1},
    {"geqo_seed", 0, 1},
    {"geqo_selection_bias", 1.5, 2},
    {"hash_mem_multiplier", 1, 1000},
    {"jit_above_cost", -1, DBL_MAX},
    {"jit_inline_above_cost", -1, DBL_MAX},
    {"jit_optimize_above_cost", -1, DBL_MAX},
    {"log_statement_sample_rate", 0, 1},
    {"log_transaction_sample_rate", 0, 1},
    {"parallel_setup_cost", 0, DBL_MAX},
    {"parallel_tuple_cost", 0, DBL_MAX},
    {"random_page_cost", 0, DBL_MAX},
    {"recursive_worktable_factor", 0.001, 1e6},
    {"seq_page_cost", 0, DBL_MAX},
    {"vacuum_cost_delay", -1, 100},
    {"vacuum_max_eager_freeze_failure_rate", 0, 1},
}};

constexpr std::string_view kBools =
    "allow_in_place_tablespaces allow_system_table_mods array_nulls check_function_bodies "
    "debug_pretty_print debug_print_parse debug_print_plan debug_print_raw_parse "
    "debug_print_rewritten default_transaction_deferrable default_transaction_read_only "
    "enable_async_append enable_bitmapscan enable_distinct_reordering enable_gathermerge "
    "enable_group_by_reordering enable_hashagg enable_hashjoin enable_incremental_sort "
    "enable_indexonlyscan enable_indexscan enable_material enable_memoize enable_mergejoin "
    "enable_nestloop enable_parallel_append enable_parallel_hash enable_partition_pruning "
    "enable_partitionwise_aggregate enable_partitionwise_join enable_presorted_aggregate "
    "enable_self_join_elimination enable_seqscan enable_sort enable_tidscan "
    "escape_string_warning event_triggers exit_on_error geqo ignore_checksum_failure "
    "ignore_system_indexes jit jit_debugging_support jit_dump_bitcode jit_expressions "
    "jit_profiling_support jit_tuple_deforming lo_compat_privileges log_disconnections "
    "log_duration log_executor_stats log_lock_failures log_lock_waits log_parser_stats "
    "log_planner_stats log_replication_commands log_statement_stats md5_password_warnings "
    "operator_precedence_warning parallel_leader_participation quote_all_identifiers "
    "row_security standard_conforming_strings synchronize_seqscans trace_notify trace_sort "
    "track_activities track_cost_delay_timing track_counts track_io_timing track_wal_io_timing "
    "transaction_deferrable transaction_read_only transform_null_equals update_process_title "
    "vacuum_truncate wal_init_zero wal_recycle zero_damaged_pages ";

// What is not looked at: texts and choices, of which versions differ.
constexpr std::string_view kTexts =
    "sort_mem vacuum_mem application_name backslash_quote backtrace_functions bytea_output "
    "client_encoding "
    "client_min_messages compute_query_id constraint_exclusion createrole_self_grant datestyle "
    "debug_copy_parse_plan_trees debug_deadlocks debug_logical_replication_streaming "
    "debug_parallel_query debug_raw_expression_coverage_test debug_write_read_parse_plan_trees "
    "default_table_access_method default_tablespace default_text_search_config "
    "default_toast_compression default_transaction_isolation default_with_oids "
    "dynamic_library_path extension_control_path extension_destdir file_copy_method "
    "force_parallel_mode icu_validation_level intervalstyle lc_messages lc_monetary lc_numeric "
    "lc_time local_preload_libraries log_btree_build_stats log_connections log_error_verbosity "
    "log_min_error_statement log_min_messages log_statement logical_replication_mode "
    "optimize_bounded_sort password_encryption plan_cache_mode restrict_nonsystem_relation_kind "
    "role search_path seed session_authorization session_preload_libraries "
    "session_replication_role stats_fetch_consistency synchronous_commit temp_tablespaces "
    "timezone timezone_abbreviations trace_lock_oidmin trace_lock_table trace_locks "
    "trace_lwlocks trace_syncscan trace_userlocks track_functions transaction_isolation "
    "wal_compression wal_consistency_checking wal_debug xmlbinary xmloption ";

// Decided for the whole server.
constexpr std::string_view kFixed =
    "allow_alter_system archive_cleanup_command archive_command archive_library archive_mode "
    "archive_timeout authentication_timeout autovacuum autovacuum_analyze_scale_factor "
    "autovacuum_analyze_threshold autovacuum_freeze_max_age autovacuum_max_workers "
    "autovacuum_multixact_freeze_max_age autovacuum_naptime autovacuum_vacuum_cost_delay "
    "autovacuum_vacuum_cost_limit autovacuum_vacuum_insert_scale_factor "
    "autovacuum_vacuum_insert_threshold autovacuum_vacuum_max_threshold "
    "autovacuum_vacuum_scale_factor autovacuum_vacuum_threshold autovacuum_work_mem "
    "autovacuum_worker_slots bgwriter_delay bgwriter_flush_after bgwriter_lru_maxpages "
    "bgwriter_lru_multiplier block_size bonjour bonjour_name checkpoint_completion_target "
    "checkpoint_flush_after checkpoint_segments checkpoint_timeout checkpoint_warning "
    "cluster_name commit_timestamp_buffers config_file data_checksums data_directory "
    "data_directory_mode data_sync_retry db_user_namespace debug_assertions debug_io_direct "
    "dynamic_shared_memory_type event_source external_pid_file file_extend_method fsync "
    "full_page_writes "
    "gss_accept_delegation hba_file hot_standby hot_standby_feedback huge_page_size huge_pages "
    "huge_pages_status ident_file idle_replication_slot_timeout ignore_invalid_pages "
    "in_hot_standby integer_datetimes io_max_combine_limit io_max_concurrency io_method "
    "io_workers is_superuser jit_provider krb_caseins_users krb_server_keyfile lc_collate "
    "lc_ctype listen_addresses log_autovacuum_min_duration log_checkpoints log_destination "
    "log_directory log_file_mode log_filename log_hostname log_line_prefix "
    "log_recovery_conflict_waits log_rotation_age log_rotation_size "
    "log_startup_progress_interval log_timezone log_truncate_on_rotation logging_collector "
    "max_active_replication_origins max_connections max_files_per_process max_function_args "
    "max_identifier_length max_index_keys max_locks_per_transaction "
    "max_logical_replication_workers max_notify_queue_pages "
    "max_parallel_apply_workers_per_subscription max_pred_locks_per_page "
    "max_pred_locks_per_relation max_pred_locks_per_transaction max_prepared_transactions "
    "max_replication_slots max_slot_wal_keep_size max_standby_archive_delay "
    "max_standby_streaming_delay max_sync_workers_per_subscription max_wal_senders max_wal_size "
    "max_worker_processes min_dynamic_shared_memory min_wal_size multixact_member_buffers "
    "multixact_offset_buffers notify_buffers num_os_semaphores oauth_validator_libraries "
    "old_snapshot_threshold port pre_auth_delay primary_conninfo primary_slot_name "
    "promote_trigger_file recovery_end_command recovery_init_sync_method "
    "recovery_min_apply_delay recovery_prefetch recovery_target recovery_target_action "
    "recovery_target_inclusive recovery_target_lsn recovery_target_name recovery_target_time "
    "recovery_target_timeline recovery_target_xid remove_temp_files_after_crash "
    "reserved_connections restart_after_crash restore_command segment_size send_abort_for_crash "
    "send_abort_for_kill serializable_buffers server_encoding server_version server_version_num "
    "shared_buffers shared_memory_size shared_memory_size_in_huge_pages shared_memory_type "
    "shared_preload_libraries ssl ssl_ca_file ssl_cert_file ssl_ciphers ssl_crl_dir "
    "ssl_crl_file ssl_dh_params_file ssl_ecdh_curve ssl_groups ssl_key_file ssl_library "
    "ssl_max_protocol_version ssl_min_protocol_version ssl_passphrase_command "
    "ssl_passphrase_command_supports_reload ssl_prefer_server_ciphers ssl_tls13_ciphers "
    "stats_temp_directory subtransaction_buffers summarize_wal superuser_reserved_connections "
    "sync_replication_slots synchronized_standby_slots synchronous_standby_names "
    "syslog_facility syslog_ident syslog_sequence_numbers syslog_split_messages "
    "trace_connection_negotiation trace_recovery_messages track_activity_query_size "
    "track_commit_timestamp transaction_buffers unix_socket_directories unix_socket_group "
    "unix_socket_permissions vacuum_defer_cleanup_age wal_block_size wal_buffers "
    "wal_decode_buffer_size wal_keep_segments wal_keep_size wal_level wal_log_hints "
    "wal_receiver_create_temp_slot wal_receiver_status_interval wal_receiver_timeout "
    "wal_retrieve_retry_interval wal_segment_size wal_summary_keep_time wal_sync_method "
    "wal_writer_delay wal_writer_flush_after ";

struct Choice {
  std::string_view name;
  std::string_view values;
};

// Also those that PostgreSQL takes without naming them.
constexpr std::array<Choice, 25> kChoices = {{
    {"backslash_quote", "safe_encoding on off true false yes no 1 0 "},
    {"bytea_output", "escape hex "},
    {"client_min_messages",
     "debug5 debug4 debug3 debug2 debug1 debug log info notice warning error fatal panic "},
    {"compute_query_id", "auto regress on off true false yes no 1 0 "},
    {"constraint_exclusion", "partition on off true false yes no 1 0 "},
    {"debug_parallel_query", "off on regress true false yes no 1 0 "},
    {"default_toast_compression", "pglz lz4 "},
    {"default_transaction_isolation",
     "serializable repeatable\\ read read\\ committed read\\ uncommitted "},
    {"force_parallel_mode", "off on regress true false yes no 1 0 "},
    {"icu_validation_level",
     "disabled debug5 debug4 debug3 debug2 debug1 debug log info notice warning error fatal "
     "panic "},
    {"intervalstyle", "postgres postgres_verbose sql_standard iso_8601 "},
    {"log_error_verbosity", "terse default verbose "},
    {"log_min_error_statement",
     "debug5 debug4 debug3 debug2 debug1 debug info notice warning error log fatal panic "},
    {"log_min_messages",
     "debug5 debug4 debug3 debug2 debug1 debug info notice warning error log fatal panic "},
    {"log_statement", "none ddl mod all "},
    {"password_encryption", "md5 scram-sha-256 on off true false yes no 1 0 "},
    {"plan_cache_mode", "auto force_generic_plan force_custom_plan "},
    {"session_replication_role", "origin replica local "},
    {"stats_fetch_consistency", "none cache snapshot "},
    {"synchronous_commit", "local remote_write remote_apply on off true false yes no 1 0 "},
    {"track_functions", "none pl all "},
    {"transaction_isolation",
     "serializable repeatable\\ read read\\ committed read\\ uncommitted "},
    {"wal_compression", "pglz lz4 zstd on off true false yes no 1 0 "},
    {"xmlbinary", "base64 hex "},
    {"xmloption", "content document "},
}};

// encnames.c, without what is no letter or digit.
constexpr std::string_view kEncodings =
    "abc alt big5 euccn eucjis2004 eucjp euckr euctw gb18030 gbk iso88591 iso885910 iso885913 "
    "iso885914 iso885915 iso885916 iso88592 iso88593 iso88594 iso88595 iso88596 iso88597 iso88598 "
    "iso88599 johab koi8 koi8r koi8u latin1 latin10 latin2 latin3 latin4 latin5 latin6 latin7 "
    "latin8 latin9 mskanji muleinternal shiftjis shiftjis2004 sjis sqlascii tcvn tcvn5712 uhc "
    "unicode utf8 vscii win win1250 win1251 win1252 win1253 win1254 win1255 win1256 win1257 "
    "win1258 win866 win874 win932 win936 win949 win950 windows1250 windows1251 windows1252 "
    "windows1253 windows1254 windows1255 windows1256 windows1257 windows1258 windows866 windows874 "
    "windows932 windows936 windows949 windows950 ";

const std::map<std::string, Setting, std::less<>>& settings() {
  static const auto table = [] {
    std::map<std::string, Setting, std::less<>> made;
    const auto add = [&](std::string_view names, SettingKind kind) {
      for (std::size_t end; (end = names.find(' ')) != std::string_view::npos;
           names.remove_prefix(end + 1)) {
        made[std::string(names.substr(0, end))] = {kind};
      }
    };
    add(kBools, SettingKind::Bool);
    add(kTexts, SettingKind::Text);
    add(kFixed, SettingKind::Fixed);
    for (const IntSetting& one : kInts) made[std::string(one.name)] = {SettingKind::Int, &one};
    for (const RealSetting& one : kReals) {
      made[std::string(one.name)] = {SettingKind::Real, nullptr, &one};
    }
    return made;
  }();
  return table;
}

}  // namespace

const Setting* find_setting(std::string_view name) {
  const auto found = settings().find(name);
  return found == settings().end() ? nullptr : &found->second;
}

const std::vector<std::string>& setting_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> made;
    for (const auto& [name, setting] : settings()) made.push_back(name);
    return made;
  }();
  return names;
}

std::string_view setting_choices(std::string_view name) {
  for (const Choice& choice : kChoices) {
    if (choice.name == name) return choice.values;
  }
  return "";
}

std::string_view encoding_names() {
  return kEncodings;
}

}  // namespace carpool::config
