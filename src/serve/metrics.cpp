#include "serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace adze::serve {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

const prometheus::Histogram::BucketBoundaries kSeconds = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120};

}  // namespace

struct Metrics::Implementation {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& requests =
      BuildCounter().Name("adze_requests_total").Help("Requests answered").Register(registry);
  prometheus::Histogram& request_seconds = BuildHistogram()
                                               .Name("adze_request_seconds")
                                               .Help("From a request to the end of its answer")
                                               .Register(registry)
                                               .Add({}, kSeconds);
  prometheus::Histogram& first_token = BuildHistogram()
                                           .Name("adze_time_to_first_token_seconds")
                                           .Help("From a request to its first token")
                                           .Register(registry)
                                           .Add({}, kSeconds);
  prometheus::Histogram& per_token = BuildHistogram()
                                         .Name("adze_time_per_token_seconds")
                                         .Help("Mean of an answer's tokens after the first")
                                         .Register(registry)
                                         .Add({}, kSeconds);
  prometheus::Counter& prompt_tokens = BuildCounter()
                                           .Name("adze_prompt_tokens_total")
                                           .Help("Tokens of prompts")
                                           .Register(registry)
                                           .Add({});
  prometheus::Counter& cached_tokens = BuildCounter()
                                           .Name("adze_prefix_hit_tokens_total")
                                           .Help("Of these, taken from the prefix cache")
                                           .Register(registry)
                                           .Add({});
  prometheus::Counter& prefix_hits = BuildCounter()
                                         .Name("adze_prefix_hits_total")
                                         .Help("Prompts that began in the prefix cache")
                                         .Register(registry)
                                         .Add({});
  prometheus::Counter& generated_tokens = BuildCounter()
                                              .Name("adze_generated_tokens_total")
                                              .Help("Tokens of answers")
                                              .Register(registry)
                                              .Add({});
  prometheus::Family<prometheus::Gauge>& running =
      BuildGauge().Name("adze_sequences_running").Help("Texts in the batch").Register(registry);
  prometheus::Family<prometheus::Gauge>& waiting =
      BuildGauge().Name("adze_requests_queued").Help("Texts that wait").Register(registry);
  prometheus::Family<prometheus::Gauge>& preemptions =
      BuildGauge().Name("adze_preemptions").Help("Texts that made room so far").Register(registry);
  prometheus::Family<prometheus::Gauge>& steps =
      BuildGauge().Name("adze_steps").Help("Forward passes so far").Register(registry);
  prometheus::Family<prometheus::Gauge>& cache_bytes =
      BuildGauge()
          .Name("adze_cache_bytes")
          .Help("Cache: budget, pages of texts, pages kept for later texts (prefix)")
          .Register(registry);
  prometheus::Family<prometheus::Gauge>& pages_used =
      BuildGauge().Name("adze_cache_pages_used").Help("Pages of texts").Register(registry);
  prometheus::Family<prometheus::Gauge>& pages_prefix = BuildGauge()
                                                            .Name("adze_cache_pages_prefix")
                                                            .Help("Pages kept for later texts")
                                                            .Register(registry);
  prometheus::Family<prometheus::Gauge>& audit_failures =
      BuildGauge()
          .Name("adze_cache_audit_failures_total")
          .Help("Counts at idle that found pages nobody refers to")
          .Register(registry);
  prometheus::Gauge& sessions = BuildGauge()
                                    .Name("adze_sessions")
                                    .Help("Chats that wait for their next request")
                                    .Register(registry)
                                    .Add({});
  prometheus::Gauge& session_bytes = BuildGauge()
                                         .Name("adze_session_bytes")
                                         .Help("Of their caches, on disk")
                                         .Register(registry)
                                         .Add({});
  prometheus::Family<prometheus::Gauge>& server = BuildGauge()
                                                      .Name("adze_http")
                                                      .Help("Open connections and active requests")
                                                      .Register(registry);
};

Metrics::Metrics() : implementation_(std::make_unique<Implementation>()) {}
Metrics::~Metrics() = default;

void Metrics::count_request(std::string_view route, int status, double seconds) {
  implementation_->requests.Add({{"route", std::string(route)}, {"status", std::to_string(status)}})
      .Increment();
  implementation_->request_seconds.Observe(seconds);
}

void Metrics::observe_first_token(double seconds) {
  implementation_->first_token.Observe(seconds);
}
void Metrics::observe_token(double seconds) {
  implementation_->per_token.Observe(seconds);
}
void Metrics::observe_prompt(int64_t tokens, int64_t cached) {
  implementation_->prompt_tokens.Increment(static_cast<double>(tokens));
  implementation_->cached_tokens.Increment(static_cast<double>(cached));
  implementation_->prefix_hits.Increment(cached > 0 ? 1 : 0);
}
void Metrics::observe_answer(int64_t tokens) {
  implementation_->generated_tokens.Increment(static_cast<double>(tokens));
}

void Metrics::set_sessions(int64_t count, int64_t bytes) {
  implementation_->sessions.Set(static_cast<double>(count));
  implementation_->session_bytes.Set(static_cast<double>(bytes));
}

std::string Metrics::text(const std::vector<ModelListing>& models,
                          int64_t connections,
                          int64_t exchanges) {
  Implementation& self = *implementation_;
  const auto set = [](auto& family, const prometheus::Labels& labels, int64_t value) {
    family.Add(labels).Set(static_cast<double>(value));
  };
  const auto forget = [](auto& family, const prometheus::Labels& labels) {
    if (family.Has(labels)) {
      family.Remove(&family.Add(labels));
    }
  };
  for (const ModelListing& listing : models) {
    const prometheus::Labels labels = {{"model", listing.name}};
    if (!listing.parent && !listing.model) {  // it may have been unloaded
      for (auto* family : {&self.running,
                           &self.waiting,
                           &self.preemptions,
                           &self.steps,
                           &self.pages_used,
                           &self.pages_prefix,
                           &self.audit_failures}) {
        forget(*family, labels);
      }
      for (const char* kind : {"budget", "texts", "prefix"}) {
        forget(self.cache_bytes, {{"kind", kind}, {"model", listing.name}});
      }
    }
    if (listing.parent || !listing.model || !listing.model->generates()) {
      continue;
    }
    const infer::SchedulerFigures figures = listing.model->scheduler().figures();
    set(self.running, labels, figures.running);
    set(self.waiting, labels, figures.waiting);
    set(self.preemptions, labels, figures.preemptions);
    set(self.steps, labels, figures.steps);
    const CacheUse use = listing.model->cache_use();
    set(self.cache_bytes, {{"kind", "budget"}, {"model", listing.name}}, use.budget_bytes);
    set(self.cache_bytes,
        {{"kind", "texts"}, {"model", listing.name}},
        use.used_bytes - use.prefix_bytes);
    set(self.cache_bytes, {{"kind", "prefix"}, {"model", listing.name}}, use.prefix_bytes);
    set(self.pages_used, labels, use.used_pages);
    set(self.pages_prefix, labels, use.prefix_pages);
    set(self.audit_failures, labels, use.audit_failures);
  }
  set(self.server, {{"kind", "connections"}}, connections);
  set(self.server, {{"kind", "requests"}}, exchanges);
  return prometheus::TextSerializer().Serialize(self.registry.Collect());
}

}  // namespace adze::serve
