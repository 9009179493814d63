/** A hidden interest, finer than a genre: what a simulated user follows, and what a genre only hints at. */
export interface Theme {
  name: string;
  /** The first is on every film of the theme, the others on some. */
  genres: readonly string[];
  nouns: readonly string[];
}

const theme = (name: string, genres: string, nouns: string): Theme => ({
  name,
  genres: genres.split(', '),
  nouns: nouns.split(' '),
});

export const themes: readonly Theme[] = [
  theme('sea voyages', 'Adventure, Drama', 'Harbor Tide Lighthouse Voyage Anchor Reef Captain Gale'),
  theme('mountain climbs', 'Adventure, Documentary', 'Summit Glacier Ridge Avalanche Ascent Peak Rope Valley'),
  theme('buried treasure', 'Adventure, Action', 'Map Idol Temple Compass Tomb Relic Caravan Expedition'),
  theme('bank robberies', 'Crime, Thriller', 'Vault Heist Getaway Safe Ledger Alibi Crew Fortune'),
  theme('mob families', 'Crime, Drama', 'Family Godson Oath Debt Boss Funeral Brother Casino'),
  theme('street racing', 'Action, Crime', 'Engine Mile Lap Throttle Turbo Asphalt Overdrive Road'),
  theme('martial arts', 'Action, Adventure', 'Fist Dragon Master Blade Tiger Tournament Monk Staff'),
  theme('disasters', 'Action, Thriller', 'Earthquake Flood Inferno Storm Collapse Eruption Wave Siren'),
  theme('secret agents', 'Thriller, Action', 'Agent Cipher Dossier Defector Embassy Signal Double Mission'),
  theme('courtrooms', 'Drama, Thriller', 'Verdict Witness Jury Motion Appeal Trial Oath Defence'),
  theme('haunted houses', 'Horror, Mystery', 'House Attic Cellar Séance Staircase Mirror Nursery Curse'),
  theme('slashers', 'Horror, Thriller', 'Mask Knife Camp Scream Midnight Cabin Prom Lake'),
  theme('vampires', 'Horror, Romance', 'Blood Count Crypt Fang Moon Castle Coffin Dusk'),
  theme('space colonies', 'Sci-Fi, Adventure', 'Orbit Colony Station Comet Airlock Galaxy Probe Planet'),
  theme('thinking machines', 'Sci-Fi, Thriller', 'Machine Circuit Android Code Memory Prototype Network Algorithm'),
  theme('time travel', 'Sci-Fi, Comedy', 'Clock Paradox Yesterday Hour Loop Century Tomorrow Minute'),
  theme('monsters', 'Sci-Fi, Horror', 'Creature Swarm Beast Egg Claw Lagoon Parasite Hive'),
  theme('dragons and wizards', 'Fantasy, Adventure', 'Wizard Crown Spell Kingdom Sword Dragon Prophecy Rune'),
  theme('fairy tales', 'Fantasy, Children', 'Princess Slipper Forest Wolf Wish Spindle Giant Frog'),
  theme('talking animals', 'Children, Animation', 'Rabbit Fox Bear Penguin Mouse Puppy Owl Hedgehog'),
  theme('toys and robots', 'Animation, Comedy', 'Toy Robot Puppet Button Balloon Gadget Train Doll'),
  theme('japanese animation', 'Animation, Fantasy', 'Spirit Blossom Samurai Sky Lantern Crane Whisper Garden'),
  theme('romantic comedy', 'Romance, Comedy', 'Wedding Date Kiss Valentine Proposal Bouquet Neighbor Crush'),
  theme('period romance', 'Romance, Drama', 'Letter Duchess Ballroom Estate Suitor Heiress Waltz Governess'),
  theme('office comedy', 'Comedy', 'Boss Memo Office Intern Meeting Cubicle Promotion Coffee'),
  theme('road trips', 'Comedy, Adventure', 'Highway Motel Van Detour Map Hitchhiker Desert Vacation'),
  theme('high school', 'Comedy, Romance', 'Prom Locker Class Semester Reunion Detention Homework Yearbook'),
  theme('noir detectives', 'Film-Noir, Mystery', 'Shadow Cigarette Alley Dame Detective Nightclub Raincoat Lie'),
  theme('country house murders', 'Mystery, Crime', 'Manor Butler Poison Inspector Guest Candlestick Heir Clue'),
  theme('stage musicals', 'Musical, Comedy', 'Song Chorus Stage Broadway Dancer Spotlight Tune Encore'),
  theme('music biographies', 'Musical, Drama', 'Guitar Trumpet Record Piano Tour Blues Singer Melody'),
  theme('trench wars', 'War, Drama', 'Trench Soldier Bridge Regiment Bugle Letter Front Armistice'),
  theme('submarines and pilots', 'War, Action', 'Submarine Squadron Torpedo Sonar Pilot Convoy Radar Hangar'),
  theme('gunslingers', 'Western, Action', 'Gunslinger Saddle Sheriff Canyon Revolver Stagecoach Noon Outlaw'),
  theme('frontier families', 'Western, Drama', 'Prairie Homestead Rider Cattle Fence River Settler Horizon'),
  theme('nature films', 'Documentary', 'Ocean Forest Whale Savanna Coral Migration Wetland Arctic'),
];

/** The genres of the catalogue, in the order that breaks ties. */
export const genres: readonly string[] = [
  'Action',
  'Adventure',
  'Animation',
  'Children',
  'Comedy',
  'Crime',
  'Documentary',
  'Drama',
  'Fantasy',
  'Film-Noir',
  'Horror',
  'Musical',
  'Mystery',
  'Romance',
  'Sci-Fi',
  'Thriller',
  'War',
  'Western',
];

export const adjectives: readonly string[] = (
  'Silent Golden Broken Crimson Hidden Lost Distant Burning Frozen Gentle Hollow Restless Savage Secret Stolen Velvet Wicked Ancient ' +
  'Bitter Bright Careless Clever Crooked Dancing Dark Electric Empty Endless Faithful Fallen Forgotten Honest Invisible Jealous Little ' +
  'Lonely Lucky Midnight Mighty Nervous Northern Patient Perfect Phantom Proud Quiet Reckless Red Scarlet Second Silver Sleeping Strange ' +
  'Sudden Tender Twisted Unlikely Wandering White Wild'
).split(' ');

export const places: readonly string[] = (
  'Avalon Belgrave Calder Dunmore Eastwick Fairhaven Galway Hartford Ithaca Juneau Kestrel Lisbon Marlow Naples Oslo Palermo Quebec ' +
  'Ravenna Salem Tangier Utrecht Valencia Whitby York Zurich'
).split(' ');

export const firstNames: readonly string[] =
  'Ada Boris Clara Dmitri Elena Felix Greta Hugo Ines Jonas Katya Leo Mira Nils Olga Pablo Rosa Stefan Tessa Umar Vera Walt Yusuf Zoe'.split(
    ' ',
  );

export const lastNames: readonly string[] = (
  'Abbot Bellamy Castellan Drummond Ekberg Farrow Grimaldi Halloran Ivanov Janssen Kovacs Lindqvist Moreau Nakata Okafor Petrov Quayle ' +
  'Rinaldi Sorensen Takeda Ulrich Vasquez Winslow Yamada Zeller'
).split(' ');
