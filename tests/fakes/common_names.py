"""Three hundred family names that are common somewhere, each with a given name that is."""

from __future__ import annotations

_LIST = """
Smith^Anna Johnson^Philip Williams^Tom Brown^Ali Jones^Sarah Garcia^Markus Miller^Petra Davis^Marco Rodriguez^Ivan
Martinez^Wei Hernandez^Sang Lopez^Vida Gonzalez^John Wilson^Mark Anderson^Eva Thomas^Sophie Taylor^Stefan Moore^Renate
Jackson^Pierre Martin^Jose Lee^Katarzyna Perez^Jun Thompson^Ravi White^Alto Harris^David Sanchez^Tim Clark^Lea
Ramirez^Lisa Lewis^Daniel Robinson^Sabine Walker^Luca Young^Olga Allen^Fatma King^Aiko Wright^Vera Scott^James
Torres^Paul Nguyen^Ann Hill^Emma Flores^Andreas Green^Helga Adams^Jean Nelson^Carlos Baker^Piotr Hall^Hui
Rivera^Fatima Campbell^Orian Mitchell^Michael Carter^Max Roberts^Mia Long^Julia Head^Martin Short^Monika Gray^Claire
Black^Luis Bell^Ayşe Cook^Hiroshi Wood^Siegfried Stone^Maria Cole^Peter West^Ian Page^Jo Ray^Thomas Day^Ursula
Müller^Birgit Schmidt^Giulia Schneider^Elena Fischer^Min Weber^Mohammed Meyer^Victoria Wagner^Robert Becker^Jan
Schulz^Ida Hoffmann^Laura Schäfer^Christian Koch^Karin Bauer^Marie Richter^Ana Klein^Mehmet Wolf^Yuki Schröder^Priya
Neumann^Anna Schwarz^Philip Zimmermann^Tom Braun^Ali Krüger^Sarah Hofmann^Markus Hartmann^Petra Lange^Marco
Werner^Ivan Krause^Wei Lehmann^Sang Köhler^Vida Maier^John Kaiser^Mark Fuchs^Eva Peters^Sophie Lang^Stefan
Scholz^Renate Möller^Pierre Weiß^Jose Jung^Katarzyna Hahn^Jun Vogel^Ravi Keller^Alto Günther^David Frank^Tim
Berger^Lea Winkler^Lisa Roth^Daniel Beck^Sabine Lorenz^Luca Baumann^Olga Franke^Fatma Albrecht^Aiko Ludwig^Vera
Winter^James Simon^Paul Kraus^Ann Böhm^Emma Schumacher^Andreas Krämer^Helga Vogt^Jean Stein^Carlos Jäger^Piotr
Otto^Hui Sommer^Fatima Groß^Orian Seidel^Michael Heinrich^Max Brandt^Mia Haas^Julia Schreiber^Martin Graf^Monika
Dietrich^Claire Ziegler^Luis Kuhn^Ayşe Kühn^Hiroshi Pohl^Siegfried Engel^Maria Horn^Peter Busch^Ian Bergmann^Jo
Rossi^Thomas Russo^Ursula Ferrari^Birgit Esposito^Giulia Bianchi^Elena Romano^Min Colombo^Mohammed Ricci^Victoria
Marino^Robert Greco^Jan Bruno^Ida Gallo^Laura Conti^Christian DeLuca^Karin Mancini^Marie Costa^Ana Giordano^Mehmet
Rizzo^Yuki Lombardi^Priya Moretti^Anna Dubois^Philip Durand^Tom Leroy^Ali Moreau^Sarah Laurent^Markus Lefebvre^Petra
Michel^Marco Bertrand^Ivan Roux^Wei Vincent^Sang Fournier^Vida Morel^John Girard^Mark Andre^Eva Mercier^Sophie
Dupont^Stefan Lambert^Renate Bonnet^Pierre Francois^Jose Silva^Katarzyna Santos^Jun Oliveira^Ravi Souza^Alto
Pereira^David Ferreira^Tim Alves^Lea Ribeiro^Lisa Almeida^Daniel Carvalho^Sabine Gomes^Luca Lima^Olga Araujo^Fatma
Fernandes^Aiko Jansen^Vera DeVries^James VandenBerg^Paul Bakker^Ann Visser^Emma Smit^Andreas Meijer^Helga DeBoer^Jean
Mulder^Carlos DeGroot^Piotr Bos^Hui Vos^Fatima Hendriks^Orian VanDijk^Michael Johansson^Max Andersson^Mia
Karlsson^Julia Nilsson^Martin Eriksson^Monika Larsson^Claire Olsson^Luis Persson^Ayşe Svensson^Hiroshi
Lindberg^Siegfried Hansen^Maria Nielsen^Peter Jensen^Ian Pedersen^Jo Andersen^Thomas Sørensen^Ursula Korhonen^Birgit
Virtanen^Giulia Mäkinen^Elena Kowalski^Min Nowak^Mohammed Wiśniewski^Victoria Wójcik^Robert Kamiński^Jan
Lewandowski^Ida Zieliński^Laura Szymański^Christian Woźniak^Karin Dąbrowski^Marie Novák^Ana Svoboda^Mehmet Dvořák^Yuki
Horváth^Priya Kovács^Anna Nagy^Philip Szabó^Tom Tóth^Ali Popescu^Sarah Ionescu^Markus Ivanov^Petra Petrov^Marco
Sidorov^Ivan Smirnova^Wei Kuznetsov^Sang Popov^Vida Sokolov^John Lebedev^Mark Kozlov^Eva Novikov^Sophie Yılmaz^Stefan
Kaya^Renate Demir^Pierre Şahin^Jose Çelik^Katarzyna Yıldız^Jun Öztürk^Ravi Aydın^Alto Arslan^David Doğan^Tim Wang^Lea
Li^Lisa Zhang^Daniel Liu^Sabine Chen^Luca Yang^Olga Huang^Fatma Zhao^Aiko Wu^Vera Zhou^James Xu^Paul Sun^Ann Ma^Emma
Zhu^Andreas Hu^Helga Guo^Jean He^Carlos Lin^Piotr Gao^Hui Luo^Fatima Kim^Orian Park^Michael Choi^Max Kang^Mia
Cho^Julia Yoon^Martin Jang^Monika Lim^Claire Han^Luis Sato^Ayşe Suzuki^Hiroshi Takahashi^Siegfried Tanaka^Maria
Watanabe^Peter Ito^Ian Yamamoto^Jo Nakamura^Thomas Kobayashi^Ursula Kato^Birgit Tran^Giulia Le^Elena Pham^Min
Hoang^Mohammed Phan^Victoria Vu^Robert Dang^Jan Bui^Ida Do^Laura Ho^Christian Singh^Karin Kumar^Marie Sharma^Ana
Patel^Mehmet Khan^Yuki Ahmed^Priya Ali^Anna Hassan^Philip Hussein^Tom Ibrahim^Ali Mohamed^Sarah Cohen^Markus
Levi^Petra Mizrahi^Marco Peretz^Ivan Biton^Wei Okafor^Sang Mensah^Vida Diallo^John Traore^Mark
"""
COMMON_NAMES = tuple(_LIST.split())
