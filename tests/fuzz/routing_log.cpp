#include "tests/fuzz/routing_log.h"

namespace switchyard {

RoutingLog::RoutingLog(const LayoutCase& job, at::Tensor replay_NLGSC) : columns_(*job.model.moe), replay_NLGSC_(std::move(replay_NLGSC)) {
  const auto S = job.model.max_sequence_length;
  seen_NLGSC_ = at::zeros({job.steps, job.model.num_blocks(), job.global_batch_size, S, columns_.count()}, at::kDouble);
}

void RoutingLog::write(const TokenContext& context, int64_t column, const at::Tensor& value_Tc) {
  const int64_t B = context.global_sample_B.size(0), width = value_Tc.size(1);
  auto place_GSc = seen_NLGSC_.select(0, context.step - 1).select(0, context.layer).narrow(2, column, width);
  place_GSc.index_copy_(0, context.global_sample_B, value_Tc.detach().to(at::kDouble).reshape({B, -1, width}));
}

void RoutingLog::see_scores(const TokenContext& context, const at::Tensor& score_TE) {
  write(context, columns_.score(), score_TE);
}

at::Tensor RoutingLog::choices(const TokenContext& context, const std::function<at::Tensor()>& choose) {
  auto expert_TK = replay_NLGSC_.defined() ? replay_NLGSC_.select(0, context.step - 1)
                                                 .select(0, context.layer)
                                                 .narrow(2, columns_.choice(), columns_.choices)
                                                 .index_select(0, context.global_sample_B)
                                                 .flatten(0, 1)
                                                 .to(at::kLong)
                                           : choose();
  write(context, columns_.choice(), expert_TK);
  write(context, columns_.seen(), at::ones({expert_TK.size(0), 1}));
  write(context, columns_.kept(), at::ones_like(expert_TK));  // a capacity says otherwise afterwards
  return expert_TK;
}

at::Tensor RoutingLog::kept(const TokenContext& context, const std::function<at::Tensor()>& decide) {
  const auto kept_N = decide();
  write(context, columns_.kept(), kept_N.view({-1, columns_.choices}));
  return kept_N;
}

namespace {

LoggedRun logged(LayoutTrace trace, const std::shared_ptr<RoutingLog>& log) {
  return {std::move(trace), log ? log->seen_NLGSC() : at::Tensor()};
}

}  // namespace

LoggedRun run_here(const LayoutCase& job, const CommunicatorPtr& world, const at::Tensor& replay_NLGSC) {
  const auto log = job.model.moe ? std::make_shared<RoutingLog>(job, replay_NLGSC) : nullptr;
  auto run = logged(train_here(job, world, log), log);
  if (log) world->all_reduce_sum(run.seen_NLGSC)->wait();
  return run;
}

LoggedRun run_on_threads(const LayoutCase& job, const at::Tensor& replay_NLGSC) {
  LoggedRun run;
  const auto train = [&](const CommunicatorPtr& world) {
    auto mine = run_here(job, world, replay_NLGSC);
    if (world->rank() == 0) run = std::move(mine);
  };
  run_ranks_as_threads(job.ranks, train, job.ranks_per_node);
  return run;
}

}  // namespace switchyard
