use parking_lot::{Mutex, MutexGuard};

/// What callers have put somewhere, in the order in which they did. Past its bound the oldest makes room.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    items: Mutex<Items<T>>,
    most: usize,
}

#[derive(Debug)]
struct Items<T> {
    kept: Vec<T>,
    ever: u64,
}

impl<T: Clone> Shelf<T> {
    /// One that keeps `most`.
    pub(super) const fn new(most: usize) -> Self {
        Self { items: Mutex::new(Items { kept: Vec::new(), ever: 0 }), most }
    }

    /// Adds what `make` makes when told how many there ever were.
    pub(super) fn add(&self, make: impl FnOnce(u64) -> T) -> T {
        let mut items = self.lock();
        let item = make(items.ever);
        items.ever += 1;
        if items.kept.len() >= self.most {
            items.kept.remove(0);
        }
        items.kept.push(item.clone());
        item
    }

    /// Oldest first.
    pub(super) fn all(&self) -> Vec<T> {
        self.lock().kept.clone()
    }

    pub(super) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        self.lock().kept.iter().find(|item| wanted(item)).cloned()
    }

    /// Changes the first that is wanted; `None` when there is none.
    pub(super) fn change<R>(&self, wanted: impl Fn(&T) -> bool, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.lock().kept.iter_mut().find(|item| wanted(item)).map(change)
    }

    /// Keeps the rest; whether anything went.
    pub(super) fn remove(&self, unwanted: impl Fn(&T) -> bool) -> bool {
        let mut items = self.lock();
        let before = items.kept.len();
        items.kept.retain(|item| !unwanted(item));
        items.kept.len() < before
    }

    fn lock(&self) -> MutexGuard<'_, Items<T>> {
        self.items.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_numbers_go_on() {
        let shelf = Shelf::new(2);
        for _ in 0..3 {
            shelf.add(|number| number);
        }
        assert_eq!(shelf.all(), [1, 2]);
        assert!(shelf.remove(|number| *number == 2) && !shelf.remove(|number| *number == 2));
        assert_eq!((shelf.add(|number| number), shelf.find(|number| *number == 1)), (3, Some(1)));
    }
}
