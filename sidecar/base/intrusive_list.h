// IntrusiveList: a doubly linked list whose links live in its elements. Never allocates, never
// owns: an element must leave its list before it dies (CHECKed), and is in at most one list for
// each ListHook it has.
//
//   struct Client : ListHook<ByState> { ... };
//   IntrusiveList<Client, ByState> list;
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace carpool {

template <typename T, typename Tag>
class IntrusiveList;

template <typename Tag>
class ListHook {
 public:
  ListHook() = default;
  ~ListHook() { CHECK(next_ == nullptr); }
  ListHook(const ListHook&) = delete;
  ListHook& operator=(const ListHook&) = delete;

  bool linked() const { return next_ != nullptr; }

 private:
  template <typename T, typename U>
  friend class IntrusiveList;
  ListHook* next_ = nullptr;
  ListHook* prev_ = nullptr;
};

// Invariant: size() is the number of elements between head_ and itself.
template <typename T, typename Tag>
class IntrusiveList {
  using Hook = ListHook<Tag>;

 public:
  IntrusiveList() { head_.next_ = head_.prev_ = &head_; }
  ~IntrusiveList() {
    CHECK(empty());
    head_.next_ = head_.prev_ = nullptr;
  }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;

  bool empty() const { return head_.next_ == &head_; }
  std::uint32_t size() const { return size_; }

  // Null when empty.
  T* front() const { return empty() ? nullptr : to_element(head_.next_); }
  T* back() const { return empty() ? nullptr : to_element(head_.prev_); }
  // The element behind `element`; null at the end.
  T* next(const T& element) const {
    Hook* hook = static_cast<const Hook&>(element).next_;
    return hook == &head_ ? nullptr : to_element(hook);
  }
  T* prev(const T& element) const {
    Hook* hook = static_cast<const Hook&>(element).prev_;
    return hook == &head_ ? nullptr : to_element(hook);
  }

  void push_front(T& element) { insert(element, &head_); }
  void push_back(T& element) { insert(element, head_.prev_); }
  void insert_behind(T& element, T& before) { insert(element, &static_cast<Hook&>(before)); }
  void remove(T& element) {
    Hook& hook = element;
    CHECK(hook.linked());
    hook.prev_->next_ = hook.next_;
    hook.next_->prev_ = hook.prev_;
    hook.next_ = hook.prev_ = nullptr;
    --size_;
  }

  // Calls fn(T&) for each; fn may remove the element it was given, and no other.
  template <typename Fn>
  void for_each(Fn&& fn) const {
    for (Hook* hook = head_.next_; hook != &head_;) {
      Hook* following = hook->next_;
      fn(*to_element(hook));
      hook = following;
    }
  }

 private:
  static T* to_element(Hook* hook) { return static_cast<T*>(hook); }
  void insert(T& element, Hook* after) {
    Hook& hook = element;
    CHECK(!hook.linked());
    hook.prev_ = after;
    hook.next_ = after->next_;
    after->next_->prev_ = &hook;
    after->next_ = &hook;
    ++size_;
  }

  mutable Hook head_;
  std::uint32_t size_ = 0;
};

}  // namespace carpool
