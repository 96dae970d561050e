// The control API over a real recorder and database.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "control/api.h"
#include "unit/recorder/recorder_fixture.h"

namespace run_recorder::testing {

class ControlFixture : public RecorderFixture {
 protected:
  void SetUp() override {
    RecorderFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    start();
    settle();
    make_api();
  }
  void TearDown() override {
    api_.reset();
    pruner_.reset();
    reconciler_.reset();
    RecorderFixture::TearDown();
  }

  void make_api() {
    ReconcilerOptions reconciler;
    reconciler.store = store_options();
    reconciler.policy.grace = std::chrono::milliseconds{0};
    reconciler.connection_open = [](std::string_view) { return false; };
    reconciler_ = std::make_unique<Reconciler>(reconciler, *recorder_);
    ApiOptions options;
    options.store = store_options();
    options.status = [] { return R"({"waiting":0})"; };
    options.metrics = [] { return "run_recorder_up 1\n"; };
    options.acceptance = [this] { return acceptance_; };
    PrunerOptions pruner;
    pruner.store = store_options();
    pruner_ = std::make_unique<Pruner>(pruner, *recorder_);
    api_ = std::make_unique<Api>(options, *recorder_, *reconciler_, *pruner_);
  }

  ApiAnswer ask(const std::string& method, const std::string& target, const std::string& body = {}) {
    return api_->answer({method, target, body});
  }
  ApiAnswer get(const std::string& target) { return ask("GET", target); }
  // The object of a good answer.
  nlohmann::json got(const std::string& target) { return object_of(get(target)); }
  static nlohmann::json object_of(const ApiAnswer& answer) {
    EXPECT_EQ(answer.status, 200U) << answer.body;
    EXPECT_EQ(answer.content_type, "application/json");
    return nlohmann::json::parse(answer.body);
  }
  // "404 not_found", and a sentence in any case.
  static std::string error_of(const ApiAnswer& answer) {
    const auto body = nlohmann::json::parse(answer.body, nullptr, false);
    EXPECT_TRUE(body.is_object() && body.contains("error")) << answer.body;
    if (!body.is_object() || !body.contains("error")) return std::to_string(answer.status);
    EXPECT_FALSE(body["error"]["message"].get<std::string>().empty());
    return std::to_string(answer.status) + " " + body["error"]["code"].get<std::string>();
  }
  std::string refused(const std::string& target) { return error_of(get(target)); }

  Acceptance acceptance_;
  std::unique_ptr<Reconciler> reconciler_;
  std::unique_ptr<Pruner> pruner_;
  std::unique_ptr<Api> api_;
};

}  // namespace run_recorder::testing
