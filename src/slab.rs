//! A slab of fixed capacity whose keys carry a generation, so that a stale key never reaches a later tenant.

/// Names one tenancy of a slot. A key outlives its tenant harmlessly: it then finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// The slot.
    pub index: u32,
    /// Which tenancy of the slot.
    pub generation: u32,
}

impl Key {
    /// The key as one word: generation above, index below.
    pub const fn to_u64(self) -> u64 {
        ((self.generation as u64) << 32) | self.index as u64
    }

    /// The inverse of [`Key::to_u64`].
    #[expect(clippy::cast_possible_truncation, reason = "each half is taken on its own")]
    pub const fn from_u64(word: u64) -> Key {
        Key { index: word as u32, generation: (word >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    tenant: Option<T>,
}

/// At most `capacity` values of `T`, each under a [`Key`]. It allocates when made or grown, never else; but memory is not touched
/// before it is used, so that room for what may come costs addresses only.
#[derive(Debug)]
pub struct Slab<T> {
    /// Those that have had a tenant. Invariant: room for `capacity`, and no more are in.
    slots: Vec<Slot<T>>,
    /// Those of them that have none now. Invariant: room for `capacity`.
    free: Vec<u32>,
    capacity: u32,
}

impl<T> Slab<T> {
    /// An empty slab with room for `capacity` values.
    pub fn new(capacity: u32) -> Slab<T> {
        let mut slab = Slab { slots: Vec::new(), free: Vec::new(), capacity: 0 };
        slab.grow(capacity);
        slab
    }

    /// Makes room for `count` more values. Allocates.
    pub fn grow(&mut self, count: u32) {
        self.capacity = self.capacity.saturating_add(count);
        let capacity = self.capacity as usize;
        self.slots.reserve_exact(capacity - self.slots.len());
        self.free.reserve_exact(capacity - self.free.len());
    }

    /// Moves `value` in, or gives it back where the slab is full.
    #[inline(always)]
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        let Some(index) = self.free.pop() else { return self.insert_new(value) };
        let slot = &mut self.slots[index as usize];
        slot.tenant = Some(value);
        Ok(Key { index, generation: slot.generation })
    }

    /// Moves `value` into a slot that has had no tenant.
    fn insert_new(&mut self, value: T) -> Result<Key, T> {
        let index = self.used();
        if index == self.capacity {
            return Err(value);
        }
        self.slots.push(Slot { generation: 0, tenant: Some(value) });
        Ok(Key { index, generation: 0 })
    }

    /// The value under `key`.
    pub fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.tenant.as_ref() } else { None }
    }

    /// The value under `key`.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.tenant.as_mut() } else { None }
    }

    /// The value under `key`, which is there.
    ///
    /// # Panics
    /// Where it is not.
    #[inline(always)]
    pub fn at(&self, key: Key) -> &T {
        let slot = &self.slots[key.index as usize];
        assert!(slot.generation == key.generation, "a key of a former tenant");
        slot.tenant.as_ref().expect("a slot's tenant has the slot's generation")
    }

    /// As [`Slab::at`].
    ///
    /// # Panics
    /// Where it is not there.
    #[inline(always)]
    pub fn at_mut(&mut self, key: Key) -> &mut T {
        let slot = &mut self.slots[key.index as usize];
        assert!(slot.generation == key.generation, "a key of a former tenant");
        slot.tenant.as_mut().expect("a slot's tenant has the slot's generation")
    }

    /// Moves the value under `key` out; the key finds nothing from then on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.tenant.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// Drops the value under `key` where it is, after `look`; the key finds nothing from then on.
    #[inline(always)]
    pub fn discard<R>(&mut self, key: Key, look: impl FnOnce(&T) -> R) -> Option<R> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let seen = look(slot.tenant.as_ref()?);
        slot.tenant = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(seen)
    }

    /// The key that the next [`Slab::insert`] will give.
    pub fn next_key(&self) -> Option<Key> {
        match self.free.last() {
            Some(&index) => Some(Key { index, generation: self.slots.get(index as usize)?.generation }),
            None => (self.used() < self.capacity).then_some(Key { index: self.used(), generation: 0 }),
        }
    }

    /// Slots that have had a tenant: the indices of all keys are below.
    pub fn used(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// The key of the slot's present tenant.
    pub fn key_at(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
        slot.tenant.as_ref().map(|_| Key { index, generation: slot.generation })
    }

    /// Every tenant with its key, in slot order. It looks no further than the last one.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let tenants = (0u32..).zip(&self.slots).filter_map(|(index, slot)| {
            Some((Key { index, generation: slot.generation }, slot.tenant.as_ref()?))
        });
        tenants.take(self.len())
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        let count = self.len();
        let tenants = (0u32..).zip(&mut self.slots).filter_map(|(index, slot)| {
            Some((Key { index, generation: slot.generation }, slot.tenant.as_mut()?))
        });
        tenants.take(count)
    }

    /// How many values are in.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no value is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more fit.
    pub fn room(&self) -> usize {
        self.capacity as usize - self.len()
    }

    /// How many fit in all.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::new(1);
        let old = slab.insert('a').unwrap();
        assert_eq!(slab.insert('b'), Err('b'));
        assert_eq!(slab.remove(old), Some('a'));
        let new = slab.insert('c').unwrap();
        assert_eq!(new.index, old.index);
        assert_eq!((slab.get(old), slab.get(new)), (None, Some(&'c')));
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.discard(old, |tenant| *tenant), None);
        assert_eq!(slab.get(new), Some(&'c'));
        assert_eq!(slab.discard(new, |tenant| *tenant), Some('c'));
        assert_eq!((slab.get(new), slab.len()), (None, 0));
        assert_eq!(Key::from_u64(new.to_u64()), new);
    }

    #[test]
    fn room_is_used_as_it_is_wanted() {
        let mut slab = Slab::new(2);
        assert_eq!((slab.used(), slab.room(), slab.capacity()), (0, 2, 2));
        let [first, second] = ['a', 'b'].map(|value| {
            let next = slab.next_key();
            let key = slab.insert(value).unwrap();
            assert_eq!(next, Some(key));
            key
        });
        assert_eq!((slab.insert('c'), slab.next_key(), slab.room()), (Err('c'), None, 0));
        slab.grow(1);
        assert_eq!(
            (slab.used(), slab.room(), slab.next_key()),
            (2, 1, Some(Key { index: 2, generation: 0 }))
        );
        slab.discard(first, |_| ());
        // What was used before is used again first.
        assert_eq!(slab.next_key(), Some(Key { index: first.index, generation: 1 }));
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(second, &'b')]);
        assert_eq!((slab.used(), slab.room(), slab.len()), (2, 2, 1));
    }
}
