//! Pods and the nodes under them: when a job that is created begins its work.

use serde::Serialize;

/// How machines behave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machines {
    /// From a job's creation to its first message, on a node that is there.
    pub pod_start: f64,
    /// What a job waits for beyond that when others are there already: until they have given it its partitions.
    pub join: f64,
    /// From the wish for a node to the node.
    pub node_start: f64,
    /// Jobs that fit a node; 0: nodes do not matter.
    pub per_node: usize,
    /// Nodes that are always there.
    pub warm: usize,
    pub most: usize,
    /// A node that nobody needs goes after so long.
    pub node_idle: f64,
}

/// A job that has not ended, or a replica.
#[derive(Debug, Clone, Copy)]
pub struct Pod {
    /// When it takes its first message; infinite while it waits for a node.
    pub ready: f64,
    /// Since when it has nothing to do.
    pub idle_since: Option<f64>,
    /// Whether it ever had.
    pub worked: bool,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Pods {
    machines: Machines,
    pub all: Vec<Pod>,
    up: usize,
    /// When nodes that were asked for come.
    coming: Vec<f64>,
    spare_since: Option<f64>,
}

impl Pods {
    pub fn new(machines: Machines) -> Self {
        Self {
            machines,
            all: Vec::new(),
            up: machines.warm,
            coming: Vec::new(),
            spare_since: None,
        }
    }

    pub fn nodes(&self) -> usize {
        if self.machines.per_node == 0 {
            0
        } else {
            self.up + self.coming.len()
        }
    }

    pub fn create(&mut self, now: f64) {
        let ready = self.place(now, self.all.is_empty());
        self.all.push(Pod {
            ready,
            idle_since: None,
            worked: false,
        });
    }

    /// When a pod of now could work.
    fn place(&mut self, now: f64, alone: bool) -> f64 {
        let m = self.machines;
        let start = if alone { m.pod_start } else { m.pod_start + m.join };
        let placed = self.all.iter().filter(|p| p.ready.is_finite()).count();
        if m.per_node == 0 || placed < self.up * m.per_node {
            return now + start;
        }
        let slot = (placed - self.up * m.per_node) / m.per_node;
        if self.coming.get(slot).is_none() && self.nodes() < m.most {
            self.coming.push(now + m.node_start);
        }
        self.coming.get(slot).map_or(f64::INFINITY, |at| at + start)
    }

    /// The next time at which something here changes by itself.
    pub fn next_change(&self, now: f64) -> f64 {
        let ready = self.all.iter().map(|p| p.ready);
        ready
            .chain(self.coming.iter().copied())
            .filter(|at| *at > now)
            .fold(f64::INFINITY, f64::min)
    }

    /// Nodes come and go, and who waits for one gets one.
    pub fn settle(&mut self, now: f64) {
        let m = self.machines;
        if m.per_node == 0 {
            return;
        }
        let before = self.coming.len();
        self.coming.retain(|at| *at > now);
        self.up += before - self.coming.len();
        for n in 0..self.all.len() {
            if self.all.get(n).is_some_and(|p| p.ready.is_infinite()) {
                let ready = self.place(now, n == 0);
                if let Some(pod) = self.all.get_mut(n) {
                    pod.ready = ready;
                }
            }
        }
        let needed = self.all.len().div_ceil(m.per_node).max(m.warm);
        if self.up <= needed {
            self.spare_since = None;
        } else if now - *self.spare_since.get_or_insert(now) >= m.node_idle {
            self.up = needed;
            self.spare_since = None;
        }
    }

    /// Pods that no container has begun.
    pub fn pending(&self, now: f64) -> usize {
        self.all.iter().filter(|p| p.ready > now).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_wait_for_nodes_and_nodes_go_when_nobody_needs_them() {
        let machines = Machines {
            pod_start: 2.0,
            join: 0.0,
            node_start: 90.0,
            per_node: 4,
            warm: 1,
            most: 2,
            node_idle: 600.0,
        };
        let mut pods = Pods::new(machines);
        (0..9).for_each(|_| pods.create(0.0));
        let ready: Vec<f64> = pods.all.iter().map(|p| p.ready).collect();
        assert_eq!(ready[..8], [2.0, 2.0, 2.0, 2.0, 92.0, 92.0, 92.0, 92.0]);
        assert!(ready[8].is_infinite());
        assert_eq!(pods.nodes(), 2);
        pods.settle(90.0);
        pods.all.remove(0);
        pods.settle(100.0);
        assert_eq!(pods.all[7].ready, 102.0);
        pods.all.clear();
        pods.settle(200.0);
        pods.settle(799.0);
        assert_eq!(pods.nodes(), 2);
        pods.settle(800.0);
        assert_eq!(pods.nodes(), 1);
    }
}
