#include "kv/sequence.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "core/error.h"

namespace adze::kv {
namespace {

constexpr std::string_view kFormat = "adze sequence 3";
// Of a text that has dropped some: positions are 32 bits wide, and it may grow.
constexpr int64_t kMostTokens = int64_t{1} << 30;

void save_pages(core::StateWriter& writer, const std::vector<PageRef>& pages) {
  writer.value(static_cast<uint64_t>(pages.size()));
  for (const PageRef& page : pages) {
    writer.bytes({page.data(), static_cast<size_t>(page.bytes())});
  }
}

std::vector<PageRef> load_pages(core::StateReader& reader, PagePool& pool, int64_t page_bytes) {
  const auto count = reader.value<uint64_t>();
  if (count > 0 && page_bytes == 0) {
    throw core::error("state", "{}: expected no side data, got some", reader.source());
  }
  std::vector<PageRef> pages;
  for (uint64_t i = 0; i < count; ++i) {
    // Read before allocating: a false count runs out of bytes, never out of memory.
    const auto raw = reader.bytes(static_cast<uint64_t>(page_bytes));
    pages.push_back(pool.allocate(page_bytes));
    std::copy(raw.begin(), raw.end(), pages.back().data());
  }
  return pages;
}

void load_slot(core::StateReader& reader, PagePool& pool, const KvStore& store, SlotPages& slot) {
  slot.length = reader.value<int64_t>();
  slot.positions = reader.list<int32_t>();
  slot.received = reader.list<float>();
  const auto sides = load_pages(reader, pool, store.side_bytes());
  if (!sides.empty()) {
    slot.side = sides.front();
  }
  slot.sealed = load_pages(reader, pool, store.sealed_page_bytes());
  slot.raw = load_pages(reader, pool, store.raw_page_bytes());
  slot.first_raw = static_cast<int64_t>(slot.sealed.size());
  slot.unsealed_pages = store.first_pages() > 1 && !slot.side ? store.first_pages() : 0;
  const int64_t pages = slot.length / kPageTokens + (slot.length % kPageTokens != 0 ? 1 : 0);
  const auto stored = static_cast<int64_t>(slot.sealed.size() + slot.raw.size());
  const auto marks = static_cast<int64_t>(slot.positions.size());
  const bool sealed = store.first_pages() == 1 || !sides.empty();
  const auto most_raw = static_cast<size_t>(sealed ? 1 : store.first_pages());
  const bool part = slot.length % kPageTokens != 0;  // of a page, which is raw
  if (slot.length < 0 || stored != pages || slot.raw.size() > most_raw ||
      (part && slot.raw.empty()) || sides.size() > 1 || (!sealed && !slot.sealed.empty()) ||
      (marks != 0 && marks != slot.length && marks != slot.length * store.shape().kv_heads)) {
    throw core::error("state",
                      "{}: expected pages and positions of {} tokens, got {} pages and {} "
                      "positions",
                      reader.source(),
                      slot.length,
                      stored,
                      marks);
  }
  if (slot.side && !store.accepts_side(slot.side.data())) {
    throw core::error("state", "{}: expected side data of {}", reader.source(), store.name());
  }
}

// Positions rise from token to token, each head's for itself; what tokens have received is finite.
bool sound_marks(const SlotPages& slot, int64_t tokens, int64_t received_of_a_token) {
  const int64_t heads =
      slot.length == 0 ? 1 : static_cast<int64_t>(slot.positions.size()) / slot.length;
  for (int64_t i = 0; i < slot.length * heads; ++i) {
    const int64_t before = i < heads ? -1 : slot.positions[static_cast<size_t>(i - heads)];
    const int64_t position = slot.positions[static_cast<size_t>(i)];
    if (position <= before || position >= tokens) {
      return false;
    }
  }
  return static_cast<int64_t>(slot.received.size()) == slot.length * received_of_a_token &&
         std::all_of(slot.received.begin(), slot.received.end(), [](float value) {
           return std::isfinite(value);
         });
}

}  // namespace

CacheLayout::CacheLayout(const model::ModelSpec& spec)
    : num_slots(static_cast<int64_t>(spec.owning_layers().size())),
      hidden_size(spec.hidden_size),
      readers(static_cast<size_t>(num_slots)) {
  const auto owners = spec.owning_layers();
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    const int64_t source = spec.kv_source[static_cast<size_t>(layer)];
    const auto slot = std::lower_bound(owners.begin(), owners.end(), source) - owners.begin();
    slot_of_layer.push_back(slot);
    readers[static_cast<size_t>(slot)].push_back(layer);
    windows.push_back(spec.window(layer));
  }
}

std::optional<int64_t> CacheLayout::complete_slot(int64_t layer) const {
  std::optional<int64_t> newest;
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    const std::vector<int64_t>& own = readers[static_cast<size_t>(slot)];
    if (own.front() > layer) {
      continue;
    }
    if (own.back() > layer) {
      return std::nullopt;
    }
    newest = slot;
  }
  return newest;
}

CacheLayoutPtr make_cache_layout(const model::ModelSpec& spec) {
  return std::make_shared<CacheLayout>(spec);
}

namespace {

// What a policy may ask of a slot of a sequence.
class SequenceSlotView : public SlotView {
 public:
  SequenceSlotView(const Sequence& sequence, int64_t slot) : sequence_(sequence), slot_(slot) {}

  int64_t slot() const override { return slot_; }
  int64_t num_slots() const override { return sequence_.num_slots(); }
  int64_t kv_heads() const override { return sequence_.store().shape().kv_heads; }
  int64_t length() const override { return pages().length; }

  std::vector<float> recent_attention(int64_t window, std::span<const float> weights) override {
    std::vector<float> largest;
    for (const int64_t layer : readers()) {
      // Damaged saves may hold rows of more tokens than there are.
      const QueryRows rows = sequence_.queries(layer).last(std::min(window, length()));
      const size_t count = rows.back.size();
      core::check(weights.empty() || weights.size() >= count, "a weight for each row");
      std::vector<int32_t> end_ranks;
      for (const int32_t back : rows.back) {
        end_ranks.push_back(static_cast<int32_t>(length()) - back);
      }
      std::vector<float> mass(static_cast<size_t>(kv_heads() * length()));
      sequence_.store().add_mass(
          pages(),
          {.query = rows.query.data(),
           .log_sum_exp = rows.log_sum_exp.data(),
           .weights = weights.empty() ? nullptr : weights.data() + (weights.size() - count),
           .end_ranks = end_ranks,
           .window = sequence_.layout().windows[static_cast<size_t>(layer)]},
          {mass.data(), length()});
      if (largest.empty()) {
        largest = std::move(mass);
        continue;
      }
      for (size_t i = 0; i < mass.size(); ++i) {
        largest[i] = std::max(largest[i], mass[i]);
      }
    }
    return largest;
  }

  std::vector<float> received() override {
    const std::vector<float>& all = pages().received;  // [length, kv_heads, readers]
    const size_t count = readers().size();
    std::vector<float> largest(static_cast<size_t>(kv_heads() * length()));
    core::check(all.size() == largest.size() * count, "attention received by every token");
    for (int64_t head = 0; head < kv_heads(); ++head) {
      for (int64_t rank = 0; rank < length(); ++rank) {
        const auto first = all.begin() + (rank * kv_heads() + head) * static_cast<int64_t>(count);
        largest[static_cast<size_t>(head * length() + rank)] =
            *std::max_element(first, first + static_cast<int64_t>(count));
      }
    }
    return largest;
  }

  std::vector<float> keys() override { return sequence_.store().keys(pages()); }

 private:
  const SlotPages& pages() const { return sequence_.slot(slot_); }
  const std::vector<int64_t>& readers() const {
    return sequence_.layout().readers[static_cast<size_t>(slot_)];
  }

  const Sequence& sequence_;
  int64_t slot_;
};

}  // namespace

Sequence::Sequence(PagePool& pool, KvStorePtr store, KvPolicyPtr policy, CacheLayoutPtr layout)
    : pool_(&pool),
      store_(std::move(store)),
      policy_(std::move(policy)),
      layout_(std::move(layout)),
      state_(policy_->new_state()),
      slots_(static_cast<size_t>(layout_->num_slots)),
      queries_(policy_->needs().queries ? layout_->slot_of_layer.size() : 0) {}

Sequence Sequence::fork() const {
  Sequence copy(*pool_, store_, policy_, layout_);
  copy.slots_ = slots_;
  copy.queries_ = queries_;
  copy.state_ = state_->fork();
  copy.last_hidden_ = last_hidden_;
  copy.last_logits_ = last_logits_;
  copy.num_tokens_ = num_tokens_;
  copy.turn_end_ = turn_end_;
  return copy;
}

void Sequence::truncate(int64_t tokens) {
  core::check(
      tokens >= 0 && tokens <= num_tokens_, "tokens within ", num_tokens_, ", got ", tokens);
  for (const SlotPages& slot : slots_) {
    if (slot.length != num_tokens_) {
      throw core::error("cache",
                        "policy {}: expected a cache that has dropped nothing, got {} of {} "
                        "tokens",
                        policy_->name(),
                        slot.length,
                        num_tokens_);
    }
  }
  for (SlotPages& slot : slots_) {
    store_->truncate(slot, tokens);
  }
  state_->truncate(tokens);
  if (tokens < num_tokens_) {  // what these held is of rows that are gone
    queries_.assign(queries_.size(), RecentQueries());
    last_hidden_.clear();
    last_logits_.clear();
  }
  num_tokens_ = tokens;
  turn_end_ = std::min(turn_end_, tokens);
}

void Sequence::clear() {
  *this = Sequence(*pool_, store_, policy_, layout_);
}

Place Sequence::place() const {
  return {.tokens = num_tokens_, .cached = most_cached_tokens(), .turn_end = turn_end_};
}

int64_t Sequence::most_cached_tokens() const {
  int64_t most = 0;
  for (const SlotPages& slot : slots_) {
    most = std::max(most, slot.length);
  }
  return most;
}

void Sequence::begin_turn(int64_t incoming, int64_t reserved) {
  if (const auto columns = policy_->begin_turn(*state_, place(), incoming, reserved)) {
    for (int64_t slot = 0; slot < num_slots(); ++slot) {
      store_->keep(*pool_, slots_[static_cast<size_t>(slot)], *columns);
    }
  }
  turn_end_ = num_tokens_ + incoming;
}

void Sequence::end_step(int64_t rows, std::span<const float> surprisals) {
  num_tokens_ += rows;
  for (SlotPages& slot : slots_) {
    store_->end_step(slot);
  }
  if (policy_->needs().surprisal) {
    core::check(static_cast<int64_t>(surprisals.size()) == rows, "a surprisal for each row");
    policy_->add_surprisals(*state_, surprisals);
  }
  const Place now = place();
  if (policy_->cuts(*state_, now)) {
    for (int64_t slot = 0; slot < num_slots(); ++slot) {
      SequenceSlotView view(*this, slot);
      if (const auto columns = policy_->columns(*state_, now, view)) {
        store_->keep(*pool_, slots_[static_cast<size_t>(slot)], *columns);
      }
    }
  }
  if (!queries_.empty() && policy_->query_window(now) == 0) {
    queries_.assign(queries_.size(), RecentQueries());
  }
}

void Sequence::add_received(int64_t layer,
                            const float* query,
                            const float* log_sum_exp,
                            int64_t rows,
                            const kernels::KeyRotation& rotation) {
  const int64_t index = layout_->slot_of_layer[static_cast<size_t>(layer)];
  const std::vector<int64_t>& readers = layout_->readers[static_cast<size_t>(index)];
  const auto reader = std::find(readers.begin(), readers.end(), layer) - readers.begin();
  const auto num_readers = static_cast<int64_t>(readers.size());
  SlotPages& slot = slots_[static_cast<size_t>(index)];
  const int64_t kv_heads = store_->shape().kv_heads;
  slot.received.resize(static_cast<size_t>(slot.length * kv_heads * num_readers));
  std::vector<int32_t> end_ranks(static_cast<size_t>(rows));
  std::iota(end_ranks.begin(), end_ranks.end(), static_cast<int32_t>(slot.length - rows + 1));
  store_->add_mass(slot,
                   {.query = query,
                    .log_sum_exp = log_sum_exp,
                    .weights = nullptr,
                    .end_ranks = end_ranks,
                    .window = layout_->windows[static_cast<size_t>(layer)],
                    .rotation = rotation,
                    .as_attended = true},
                   {slot.received.data() + reader, num_readers, kv_heads * num_readers});
}

std::optional<std::vector<int64_t>> Sequence::narrow(int64_t slot) {
  SequenceSlotView view(*this, slot);
  return policy_->narrow(*state_, place(), view);
}

void Sequence::append_pages(std::span<const PageRef> pages, std::span<const PageRef> sides) {
  core::check(static_cast<int64_t>(pages.size()) == num_slots(), "a page a slot");
  for (size_t i = 0; i < slots_.size(); ++i) {
    SlotPages& slot = slots_[i];
    core::check(slot.length == num_tokens_ && slot.raw.empty() && slot.positions.empty() &&
                    slot.length == static_cast<int64_t>(slot.sealed.size()) * kPageTokens,
                "pages are appended to whole pages");
    slot.sealed.push_back(pages[i]);
    if (!sides.empty()) {
      slot.side = sides[i];
    }
    slot.first_raw = static_cast<int64_t>(slot.sealed.size());
    slot.length += kPageTokens;
  }
  num_tokens_ += kPageTokens;
}

int64_t Sequence::bytes_to_append(int64_t rows) const {
  int64_t bytes = 0;
  for (const SlotPages& slot : slots_) {
    const int64_t used = slot.length % kPageTokens;
    const int64_t room = used == 0 ? 0 : kPageTokens - used;
    int64_t pages = rows <= room ? 0 : (rows - room + kPageTokens - 1) / kPageTokens;
    if (used != 0 && slot.raw.back().shared()) {
      ++pages;  // copied before it is written to
    }
    // A page that opens seals the one before, or the first ones all together.
    bytes += pages * store_->raw_page_bytes();
    if (!store_->sealed_is_raw()) {
      bytes += (pages + store_->first_pages()) * store_->sealed_page_bytes() + store_->side_bytes();
    }
    if (policy_->evicts()) {  // what a cut packs anew, at most every kept page
      bytes += (slot.length / kPageTokens + 2) * store_->raw_page_bytes();
    }
  }
  if (!queries_.empty()) {
    const kernels::AttentionShape& shape = store_->shape();
    bytes += static_cast<int64_t>(queries_.size()) *
             RecentQueries::page_bytes(policy_->query_window(place()), shape.heads, shape.head_dim);
  }
  return bytes;
}

int64_t Sequence::rows_before_cut() const {
  return policy_->rows_before_cut(*state_, place());
}

int64_t Sequence::rows_at_once() const {
  const bool whole = policy_->needs().whole_prompt && num_tokens_ == 0;
  return whole ? std::max<int64_t>(turn_end_, 1) : 1;
}

std::vector<int32_t> Sequence::positions(int64_t slot) const {
  const SlotPages& pages = slots_[static_cast<size_t>(slot)];
  if (!pages.positions.empty() || pages.length == 0) {
    return pages.positions;
  }
  std::vector<int32_t> positions(static_cast<size_t>(pages.length));
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

int64_t Sequence::page_bytes() const {
  int64_t total = 0;
  for (const SlotPages& slot : slots_) {
    total += slot.page_bytes();
  }
  for (const RecentQueries& queries : queries_) {
    total += queries.bytes();
  }
  return total;
}

int64_t Sequence::bytes() const {
  auto total = page_bytes() + state_->bytes() +
               static_cast<int64_t>((last_hidden_.size() + last_logits_.size()) * sizeof(float));
  for (const SlotPages& slot : slots_) {
    total += static_cast<int64_t>(slot.positions.size() * sizeof(int32_t) +
                                  slot.received.size() * sizeof(float));
  }
  return total;
}

void Sequence::save(core::StateWriter& writer) const {
  writer.text(kFormat);
  writer.text(store_->name());
  writer.text(policy_->name());
  writer.value(num_slots());
  writer.value(store_->shape().kv_heads);
  writer.value(store_->shape().head_dim);
  writer.value(num_tokens_);
  writer.value(turn_end_);
  for (const SlotPages& slot : slots_) {
    writer.value(slot.length);
    writer.list(std::span<const int32_t>(slot.positions));
    writer.list(std::span<const float>(slot.received));
    save_pages(writer, slot.side ? std::vector<PageRef>{slot.side} : std::vector<PageRef>());
    save_pages(writer, slot.sealed);
    save_pages(writer, slot.raw);
  }
  for (const RecentQueries& queries : queries_) {
    queries.save(writer);
  }
  writer.list(std::span<const float>(last_hidden_));
  state_->save(writer);
}

void Sequence::load(core::StateReader& reader) {
  Sequence loaded(*pool_, store_, policy_, layout_);
  reader.expect("format", kFormat);
  reader.expect("kv-store", store_->name());
  reader.expect("kv-policy", policy_->name());
  reader.expect("slots", num_slots());
  reader.expect("kv_heads", store_->shape().kv_heads);
  reader.expect("head_dim", store_->shape().head_dim);
  loaded.num_tokens_ = reader.value<int64_t>();
  loaded.turn_end_ = reader.value<int64_t>();
  std::vector<int64_t> lengths;
  for (SlotPages& slot : loaded.slots_) {
    load_slot(reader, *pool_, *store_, slot);
    const bool all = slot.length == loaded.num_tokens_ && slot.positions.empty();
    const bool some = slot.length > 0 && slot.length <= loaded.num_tokens_ && policy_->evicts() &&
                      loaded.num_tokens_ <= kMostTokens;
    if (!all && !some) {
      throw core::error("state",
                        "{}: expected {} of {} tokens in a slot, got {}",
                        reader.source(),
                        policy_->evicts() ? "some" : "all",
                        loaded.num_tokens_,
                        slot.length);
    }
    const auto readers = layout_->readers[static_cast<size_t>(&slot - loaded.slots_.data())].size();
    const int64_t received = store_->shape().kv_heads * static_cast<int64_t>(readers);
    if (!sound_marks(slot, loaded.num_tokens_, policy_->needs().received ? received : 0)) {
      throw core::error(
          "state", "{}: expected what {} knows of tokens", reader.source(), policy_->name());
    }
    lengths.push_back(slot.length);
  }
  for (RecentQueries& queries : loaded.queries_) {
    queries.load(reader, *pool_);
    const kernels::AttentionShape& shape = store_->shape();
    if (queries.heads() != 0 &&
        (queries.heads() != shape.heads || queries.head_dim() != shape.head_dim)) {
      throw core::error("state", "{}: expected queries of this model", reader.source());
    }
  }
  loaded.last_hidden_ = reader.list<float>();
  loaded.state_->load(reader);
  const auto known = static_cast<int64_t>(loaded.last_hidden_.size());
  if (loaded.turn_end_ < 0 || (known != 0 && known != layout_->hidden_size) ||
      !loaded.state_->fits(lengths, loaded.num_tokens_)) {
    throw core::error(
        "state", "{}: expected what {} knows of a text", reader.source(), policy_->name());
  }
  *this = std::move(loaded);
}

}  // namespace adze::kv
