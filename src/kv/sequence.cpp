#include "kv/sequence.h"

#include <numeric>
#include <utility>

#include "core/check.h"
#include "core/error.h"

namespace adze::kv {
namespace {

constexpr std::string_view kFormat = "adze sequence 1";

void save_pages(core::StateWriter& writer, const std::vector<PageRef>& pages) {
  writer.value(static_cast<uint64_t>(pages.size()));
  for (const PageRef& page : pages) {
    writer.bytes({page.data(), static_cast<size_t>(page.bytes())});
  }
}

std::vector<PageRef> load_pages(core::StateReader& reader, PagePool& pool, int64_t page_bytes) {
  const auto count = reader.value<uint64_t>();
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
  slot.sealed = load_pages(reader, pool, store.sealed_page_bytes());
  slot.raw = load_pages(reader, pool, store.raw_page_bytes());
  slot.first_raw = static_cast<int64_t>(slot.sealed.size());
  const int64_t pages = slot.length / kPageTokens + (slot.length % kPageTokens != 0 ? 1 : 0);
  const auto stored = static_cast<int64_t>(slot.sealed.size() + slot.raw.size());
  const auto marks = static_cast<int64_t>(slot.positions.size());
  if (slot.length < 0 || stored != pages || slot.raw.size() > 1 ||
      (marks != 0 && marks != slot.length && marks != slot.length * store.shape().kv_heads)) {
    throw core::error("state",
                      "{}: expected pages and positions of {} tokens, got {} pages and {} "
                      "positions",
                      reader.source(),
                      slot.length,
                      stored,
                      marks);
  }
}

}  // namespace

Sequence::Sequence(PagePool& pool, KvStorePtr store, KvPolicyPtr policy, int64_t num_slots)
    : pool_(&pool),
      store_(std::move(store)),
      policy_(std::move(policy)),
      state_(policy_->new_state()),
      slots_(static_cast<size_t>(num_slots)) {}

Sequence Sequence::fork() const {
  Sequence copy(*pool_, store_, policy_, num_slots());
  copy.slots_ = slots_;
  copy.state_ = state_->fork();
  copy.num_tokens_ = num_tokens_;
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
  num_tokens_ = tokens;
}

void Sequence::clear() {
  *this = Sequence(*pool_, store_, policy_, num_slots());
}

void Sequence::end_step(int64_t rows) {
  num_tokens_ += rows;
  for (SlotPages& slot : slots_) {
    store_->end_step(slot);
  }
  const auto columns = policy_->after_accepted(*state_, slots_.front().length);
  if (columns) {
    for (SlotPages& slot : slots_) {
      store_->keep(*pool_, slot, *columns);
    }
  }
}

void Sequence::append_pages(std::span<const PageRef> pages) {
  core::check(static_cast<int64_t>(pages.size()) == num_slots(), "a page a slot");
  for (size_t i = 0; i < slots_.size(); ++i) {
    SlotPages& slot = slots_[i];
    core::check(slot.length == num_tokens_ && slot.raw.empty() && slot.positions.empty() &&
                    slot.length == static_cast<int64_t>(slot.sealed.size()) * kPageTokens,
                "pages are appended to whole pages");
    slot.sealed.push_back(pages[i]);
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
    // A page that opens seals the one before.
    bytes += pages * store_->raw_page_bytes();
    if (!store_->sealed_is_raw()) {
      bytes += (pages + 1) * store_->sealed_page_bytes();
    }
    if (policy_->evicts()) {  // what a cut packs anew, at most every kept page
      bytes += (slot.length / kPageTokens + 2) * store_->raw_page_bytes();
    }
  }
  return bytes;
}

int64_t Sequence::rows_before_cut() const {
  return policy_->rows_before_cut(*state_, slots_.front().length);
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

int64_t Sequence::bytes() const {
  int64_t total = state_->bytes();
  for (const SlotPages& slot : slots_) {
    total += slot.bytes();
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
  for (const SlotPages& slot : slots_) {
    writer.value(slot.length);
    writer.list(std::span<const int32_t>(slot.positions));
    save_pages(writer, slot.sealed);
    save_pages(writer, slot.raw);
  }
  state_->save(writer);
}

void Sequence::load(core::StateReader& reader) {
  Sequence loaded(*pool_, store_, policy_, num_slots());
  reader.expect("format", kFormat);
  reader.expect("kv-store", store_->name());
  reader.expect("kv-policy", policy_->name());
  reader.expect("slots", num_slots());
  reader.expect("kv_heads", store_->shape().kv_heads);
  reader.expect("head_dim", store_->shape().head_dim);
  loaded.num_tokens_ = reader.value<int64_t>();
  for (SlotPages& slot : loaded.slots_) {
    load_slot(reader, *pool_, *store_, slot);
    // Positions are 32 bits wide; a policy that drops nothing holds every token it has seen.
    const bool dropped = policy_->evicts() && loaded.num_tokens_ <= INT32_MAX;
    if (slot.length > loaded.num_tokens_ || (slot.length != loaded.num_tokens_ && !dropped)) {
      throw core::error("state",
                        "{}: expected {} of {} tokens in a slot, got {}",
                        reader.source(),
                        policy_->evicts() ? "some" : "all",
                        loaded.num_tokens_,
                        slot.length);
    }
  }
  loaded.state_->load(reader);
  *this = std::move(loaded);
}

}  // namespace adze::kv
