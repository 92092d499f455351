// Where the money of one transfer is, step by step. Exact: paise as BigInt, never a float. Pure: no DOM.

import { fromPaise, toPaise } from "../money.js";

export const paise = toPaise;
export const rupees = fromPaise;

/**
 * The places of the money after each step: a list as long as `steps` plus one, the first before any step.
 * Each is `{free, held, transit, received, vanished, made}` in paise; `free + held + transit + received + vanished`
 * is `total` at each, unless money was made, which only the old way can do.
 *
 * `isImplied(index)` tells that at this step it came out that the held money was taken (a commit record found on disk).
 */
export function timeline(steps, isImplied, isOver) {
  const total = totalOf(steps);
  const places = [];
  let [held, debited, credited] = [0n, 0n, 0n];
  const place = (index) => {
    const transit = debited > credited ? debited - credited : 0n;
    const isLost = transit > 0n && isOver(index);
    return {
      total, held, received: credited,
      free: total > held + debited ? total - held - debited : 0n,
      transit: isLost ? 0n : transit,
      vanished: isLost ? transit : 0n,
      made: credited > debited ? credited - debited : 0n,
    };
  };
  places.push(place(-1));
  steps.forEach((step, index) => {
    for (const { what, amount, account } of step.money) {
      if (what === "held") held += amount;
      if (what === "debited") {
        debited += amount;
        held = held > amount ? held - amount : 0n;
      }
      if (what === "credited") credited += amount;
      if (what === "released" && isPaying(steps, step, account)) held = held > amount ? held - amount : 0n;
    }
    if (isImplied(index) && debited < total) {
      debited = total;
      held = 0n;
    }
    places.push(place(index));
  });
  return places;
}

/** A release at a receiver frees the room that was reserved; only one at the payer frees held money. */
function isPaying(steps, released, account) {
  return steps.some((step) => step.lane === released.lane
    && step.money.some((money) => money.what === "held" && money.account === account));
}

function totalOf(steps) {
  const sums = { held: 0n, debited: 0n, credited: 0n };
  for (const { what, amount } of steps.flatMap((step) => step.money)) {
    if (what in sums) sums[what] += amount;
  }
  // What a restart repeats counts once, so the largest of the three and not their sum.
  return Object.values(sums).reduce((most, sum) => (sum > most ? sum : most), 0n);
}

/** The accounts that pay and that receive, as `Mumbai:1001`. */
export function accounts(steps, lanes) {
  const names = (kinds) => [...new Set(steps.flatMap((step) => step.money
    .filter((money) => kinds.includes(money.what)).map((money) => `${lanes[step.lane].name}:${money.account}`)))];
  return { paying: names(["held", "debited"]), receiving: names(["credited", "reserved"]) };
}
