#include "core/routing/routing_rule.h"

#include "core/routing/softmax_top_k.h"

namespace switchyard {

const std::map<std::string, RoutingRule>& routing_rules() {
  static const std::map<std::string, RoutingRule> kRules = {
      {"softmax_top_k", softmax_top_k},
  };
  return kRules;
}

}  // namespace switchyard
