"""The books the library opens with, all long in the public domain."""

from datetime import date

from django.db import migrations

# (first name, last name), born, died, [(title, year, language, genres, summary, statuses of the copies)]
SHELF = [
    (
        ("Jane", "Austen"), date(1775, 12, 16), date(1817, 7, 18),
        [
            (
                "Pride and Prejudice", 1813, "English", ["Romance", "Satire"],
                "Elizabeth Bennet, one of five sisters, is quick to judge the proud Mr Darcy. "
                "Both have to change their minds about each other, and about themselves.",
                "aam",
            ),
            (
                "Emma", 1815, "English", ["Romance", "Satire"],
                "Handsome, clever and rich, Emma Woodhouse arranges marriages for everyone around "
                "her and understands her own heart last of all.",
                "a",
            ),
        ],
    ),
    (
        ("Charlotte", "Brontë"), date(1816, 4, 21), date(1855, 3, 31),
        [
            (
                "Jane Eyre", 1847, "English", ["Romance", "Gothic"],
                "An orphan becomes a governess at Thornfield Hall, where the master is charming "
                "and somebody laughs at night on the third floor.",
                "ar",
            ),
        ],
    ),
    (
        ("Lewis", "Carroll"), date(1832, 1, 27), date(1898, 1, 14),
        [
            (
                "Alice’s Adventures in Wonderland", 1865, "English", ["Fantasy", "Children"],
                "Alice follows a rabbit with a pocket watch down a hole and finds a country where "
                "tea never ends and words mean rather more than they should.",
                "aaa",
            ),
        ],
    ),
    (
        ("Charles", "Dickens"), date(1812, 2, 7), date(1870, 6, 9),
        [
            (
                "A Tale of Two Cities", 1859, "English", ["Historical"],
                "London and Paris before and during the French Revolution, and a man who gives "
                "his wasted life a meaning at its very end.",
                "a",
            ),
            (
                "Great Expectations", 1861, "English", ["Historical"],
                "Pip, a blacksmith’s boy, comes into money from a stranger and has to learn what "
                "a gentleman really is.",
                "am",
            ),
        ],
    ),
    (
        ("Johann Wolfgang von", "Goethe"), date(1749, 8, 28), date(1832, 3, 22),
        [
            (
                "Die Leiden des jungen Werthers", 1774, "German", ["Romance"],
                "In letters to a friend, young Werther tells of his hopeless love for Lotte, who "
                "is engaged to somebody else.",
                "a",
            ),
        ],
    ),
    (
        ("Herman", "Melville"), date(1819, 8, 1), date(1891, 9, 28),
        [
            (
                "Moby-Dick", 1851, "English", ["Adventure"],
                "Ishmael goes to sea on the Pequod, whose captain wants one white whale more than "
                "he wants to come home.",
                "aa",
            ),
        ],
    ),
    (
        ("Mary", "Shelley"), date(1797, 8, 30), date(1851, 2, 1),
        [
            (
                "Frankenstein", 1818, "English", ["Gothic", "Science fiction"],
                "A student gives life to a creature of his own making and turns his back on it. "
                "The creature does not forget.",
                "aar",
            ),
        ],
    ),
    (
        ("Bram", "Stoker"), date(1847, 11, 8), date(1912, 4, 20),
        [
            (
                "Dracula", 1897, "English", ["Gothic"],
                "Diaries, letters and telegrams record how a count from Transylvania came to "
                "England, and the few who stood against him.",
                "am",
            ),
        ],
    ),
    (
        ("Jules", "Verne"), date(1828, 2, 8), date(1905, 3, 24),
        [
            (
                "Vingt mille lieues sous les mers", 1870, "French",
                ["Adventure", "Science fiction"],
                "Hunting a sea monster, Professor Aronnax becomes the guest and the prisoner of "
                "Captain Nemo on board the Nautilus.",
                "a",
            ),
            (
                "Le Tour du monde en quatre-vingts jours", 1873, "French", ["Adventure"],
                "Phileas Fogg bets half his fortune that he can travel around the world in eighty "
                "days, and leaves the same evening.",
                "aa",
            ),
        ],
    ),
    (
        ("H. G.", "Wells"), date(1866, 9, 21), date(1946, 8, 13),
        [
            (
                "The Time Machine", 1895, "English", ["Science fiction"],
                "A traveller returns late for dinner with a story about the year 802,701 and two "
                "strange flowers in his pocket.",
                "a",
            ),
            (
                "The War of the Worlds", 1898, "English", ["Science fiction"],
                "Cylinders from Mars fall on the quiet towns of Surrey, and nothing people have "
                "built can stop what climbs out.",
                "ar",
            ),
        ],
    ),
]  # fmt: skip


def remove(apps, schema_editor):
    """Take back what nobody has changed hands with: books that are lent stay, and so do their authors."""
    def model(name):
        return apps.get_model("catalog", name).objects.using(schema_editor.connection.alias)

    for (first_name, last_name), _, _, books in SHELF:
        author = model("Author").filter(first_name=first_name, last_name=last_name)
        titles = [book[0] for book in books]
        model("Book").filter(author__in=author, title__in=titles).exclude(copies__status="o").delete()
        author.filter(books=None).delete()


def add(apps, schema_editor):
    def model(name):
        return apps.get_model("catalog", name).objects.using(schema_editor.connection.alias)

    for (first_name, last_name), born, died, books in SHELF:
        author = model("Author").create(
            first_name=first_name, last_name=last_name, date_of_birth=born, date_of_death=died
        )
        for title, year, language, genres, summary, copies in books:
            book = model("Book").create(
                title=title,
                author=author,
                published=year,
                language=model("Language").get_or_create(name=language)[0],
                summary=summary,
            )
            book.genres.set([model("Genre").get_or_create(name=name)[0] for name in genres])
            for status in copies:
                model("BookInstance").create(book=book, imprint="Library edition", status=status)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]

    operations = [migrations.RunPython(add, remove)]
